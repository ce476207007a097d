"""Stands in for `encodings` in a traced run. Never imported here: commands.py lays it over the root's own.

Every Python imports encodings first, whatever its options (-I and -S too), and children do as well. It writes
the name of each module that is looked for from then on, and at the end how often files were. It needs nothing
but what is inside the interpreter, and nothing that is newer than Python 3.6.
"""

import _frozen_importlib_external as _external
import _io
import atexit as _atexit
import marshal as _marshal
import posix as _posix
import sys as _sys

_FILE = "/.work/trace"
_COUNTED = {"stat", "listdir", "open_code", "FileIO", "create_dynamic"}
_look_ups = [0]


def _write(*fields: object) -> None:
    line = "\t".join(str(field) for field in fields) + "\n"
    handle = _posix.open(_FILE, _posix.O_WRONLY | _posix.O_APPEND | _posix.O_CREAT, 0o666)
    try:
        _posix.write(handle, line.encode("utf-8", "replace"))
    finally:
        _posix.close(handle)


class _Finder:
    """First on sys.meta_path: finds nothing."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:  # noqa: ARG004
        _write("M", name)


class _Counting:
    """A module of the import system's, whose calls are counted."""

    def __init__(self, module: object) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        value = getattr(self._module, name)
        if name not in _COUNTED:
            return value

        def call(*arguments: object) -> object:
            _look_ups[0] += 1
            return value(*arguments)

        return call


def _end() -> None:
    modules = len([name for name in _sys.modules if name != "encodings._original"])
    _write("END", modules, _look_ups[0])


del _sys.modules["atexit"]  # whoever imports it is to be seen
for _name in _sys.modules:
    _write("M", _name)
_sys.meta_path.insert(0, _Finder)
for _name in ("_os", "_io", "_imp"):
    if hasattr(_external, _name):
        setattr(_external, _name, _Counting(getattr(_external, _name)))
_atexit.register(_end)

# open() is not there yet
_place = _sys.modules[__name__].__path__[0]
try:
    _data = _io.FileIO(_place + "/_original.pyc").readall()
    _code = _marshal.loads(_data[16 if _sys.version_info >= (3, 7) else 12 :])  # noqa: S302 - the root's own
except FileNotFoundError:
    _data = _io.FileIO(_place + "/_original.py").readall()
    _code = compile(_data, _place + "/__init__.py", "exec")
exec(_code)  # noqa: S102 - what would have run without us
