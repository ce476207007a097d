"""What no bytecode says: modules that C code imports, codecs that are looked up by a text, and imports that
do not count. From CPython's sources, 3.6 to 3.14: Modules/*.c, Lib/encodings/__init__.py, Lib/site.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from encodings import normalize_encoding
from encodings.aliases import aliases


@dataclass(frozen=True, slots=True)
class Hidden:
    """A module that C code imports, or Python code by a name that it puts together. module: `name*` means all
    that begin so; names: only where one of these is used; none: always."""

    module: str
    names: frozenset[str] = frozenset()


def _always(*modules: str) -> tuple[Hidden, ...]:
    return tuple(Hidden(module) for module in modules)


_STRPTIME = (Hidden("_strptime", frozenset({"strptime"})),)
_SYSCONFIG = _always("_sysconfigdata*")  # with the target's name behind, or without (3.6 of 17.01)
# names that a release has no module of do not matter
HIDDEN: Mapping[str, tuple[Hidden, ...]] = {
    "_asyncio": _always(
        *("asyncio.base_futures", "asyncio.base_tasks", "asyncio.coroutines", "asyncio.events"),
        *("asyncio.exceptions", "traceback", "weakref"),
    ),
    "_codecs_hk": _always("_codecs_tw", "_multibytecodec"),
    "_codecs_iso2022": _always("_codecs_cn", "_codecs_jp", "_codecs_kr", "_multibytecodec"),
    **{f"_codecs_{name}": _always("_multibytecodec") for name in ("cn", "jp", "kr", "tw")},
    "_curses_panel": _always("_curses"),
    "_datetime": _STRPTIME,
    "_decimal": _always("collections.abc", "numbers"),
    "_elementtree": _always("copy", "pyexpat", "xml.etree.ElementPath"),
    "_io": _always("_bootlocale"),  # up to 3.9
    "_json": _always("json.decoder"),
    "_pickle": _always("_compat_pickle", "codecs", "copyreg", "functools"),
    "_socket": _always("encodings.idna"),  # getaddrinfo() encodes every host that is a str
    "_sqlite3": (*_always("functools"), Hidden("sqlite3.dump", frozenset({"iterdump"}))),
    "_zoneinfo": _always("datetime", "io", "weakref", "zoneinfo._common", "zoneinfo._tzpath"),
    "array": _always("collections.abc", "copyreg"),
    "importlib.resources": _always("importlib.readers"),  # the frozen importlib's FileLoader does it
    "distutils.sysconfig": _SYSCONFIG,
    "parser": _always("copyreg"),
    "sysconfig": _SYSCONFIG,
    "time": _STRPTIME,
}

# what runs while the interpreter starts, or talks to somebody at its prompt: functions of these that import
# something are for errors and prompts, and python3-base alone does without it
STARTUP = frozenset({"site", "_sitebuiltins"})

# `site` takes these where they are there (Lib/site.py)
CUSTOM = ("sitecustomize", "usercustomize")
# by this file the interpreter knows its library's folder, even where the module itself is frozen
LANDMARK = "os"

# functions that stand in a table of their module, and run only for who uses one of these (Lib/shutil.py)
_MAKE, _UNPACK = frozenset({"make_archive"}), frozenset({"unpack_archive"})
_TRACES = frozenset({"get_object_traceback"})
GATES: Mapping[tuple[str, str], frozenset[str]] = {
    # caught where it is not there, and of use to who traces memory alone (Lib/warnings.py)
    ("_py_warnings", "_formatwarnmsg_impl"): _TRACES,
    ("warnings", "_formatwarnmsg_impl"): _TRACES,
    ("shutil", "_make_tarball"): _MAKE,
    ("shutil", "_make_zipfile"): _MAKE,
    ("shutil", "_unpack_tarfile"): _UNPACK,
    ("shutil", "_unpack_zipfile"): _UNPACK,
}

# codecs from bytes to bytes, called as modules and much else are
TRANSFORMS = frozenset(
    f"encodings.{name}"
    for name in ("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec")
)
# who uses one of these may pass on a codec's name
CODEC_USERS = frozenset(
    {
        *("encode", "decode", "encoding", "lookup", "getencoder", "getdecoder", "getreader", "getwriter"),
        *("getincrementalencoder", "getincrementaldecoder", "TextIOWrapper", "str", "bytes", "bytearray"),
        *("open", "iterdecode", "iterencode", "EncodedFile", "read_text", "write_text"),
    }
)
# what a unit has among its attributes that uses getattr() with a name that is put together (batch.py):
# it may mean any function that is called like one of its texts, or begins so
COMPUTED_NAME = "getattr()"
# who uses one of these may import what it has the name of
IMPORTERS = frozenset({"__import__", "import_module", "resolve_name"})


def codecs_in(words: Iterable[str]) -> Iterator[str]:
    """The modules of codecs that are called so: 'Latin-1' is encodings.latin_1."""
    for word in words:
        name = normalize_encoding(word.replace("%", "")).lower()
        yield f"encodings.{aliases.get(name, name)}"


def is_prefix(word: str) -> bool:
    """Whether a text may be what names of functions begin with: 'do_', 'visit_%s'."""
    return len(prefix_of(word)) > 2 and prefix_of(word).endswith("_")


def prefix_of(word: str) -> str:
    """The text up to where something is put in."""
    return word.partition("%")[0]
