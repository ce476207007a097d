"""Compiles a batch of sources. Never imported: bytecode.py hands its text to the target's Python.

Reads a manifest on standard input (marshal, in hex), writes .pyc files, answers on standard output (a Python
literal). It needs nothing but what is built into the interpreter, for python3-base has little more, and
nothing that is newer than Python 3.6.
"""

import _frozen_importlib_external as frozen
import _imp
import marshal
import sys

# PEP 552: valid by the source's hash, checked wherever the source is there, or trusted unchecked
FLAGS = {"checked-hash": 0b11, "unchecked-hash": 0b01, "timestamp": 0b00}
MAGIC = frozen.MAGIC_NUMBER


def header(text: bytes, validity: str, epoch: int, hashed: bool) -> bytes:
    """What stands before the code: by what the interpreter tells that it is this source's. hashed: whether
    it has a word of flags, and can be a hash (3.7 and later)."""
    flags = FLAGS[validity].to_bytes(4, "little") if hashed else b""
    if validity == "timestamp":
        size, mtime = len(text) & 0xFFFFFFFF, epoch & 0xFFFFFFFF
        return MAGIC + flags + mtime.to_bytes(4, "little") + size.to_bytes(4, "little")
    return MAGIC + flags + _imp.source_hash(int.from_bytes(MAGIC, "little"), text)


def content(source: "dict[str, str | bytes]") -> bytes:
    """The bytes of a source, which are in the manifest or in a file."""
    if "data" in source:
        return bytes(source["data"])  # type: ignore[arg-type]  # of a str there is none
    with open(source["file"], "rb") as stream:  # noqa: PTH123 - pathlib is no part of python3-base
        return stream.read()


def main() -> None:
    manifest = marshal.loads(bytes.fromhex(sys.stdin.read()))  # noqa: S302 - what bytecode.py has written
    optimize, validity, epoch = manifest["optimize"], manifest["validity"], manifest["epoch"]
    hashed = manifest["hashed"]
    magic = int.from_bytes(MAGIC[:2], "little")
    failures, kept = [], []
    # another version is for the caller to refuse, who knows which one is wanted
    sources = manifest["sources"] if magic == manifest["magic"] else []
    for number, source in enumerate(sources, manifest["start"]):
        try:
            text = content(source)
            code = compile(text, source["name"], "exec", dont_inherit=True, optimize=optimize)
        except (SyntaxError, ValueError, OSError, OverflowError, RecursionError, MemoryError) as error:
            failures.append((source["name"], f"{type(error).__name__}: {error}"))
        else:
            # a second reference to it, or marshal leaves a flag out from 3.14 on that py_compile's .pyc has
            kept.append(code)
            with open(f"{manifest['into']}/{number:06d}.pyc", "wb") as stream:  # noqa: PTH123 - the same
                stream.write(header(text, validity, epoch, hashed) + marshal.dumps(code))
            kept.clear()
    sys.stdout.write(ascii({"magic": magic, "version": sys.version.split()[0], "failures": failures}))


if __name__ == "__main__":
    main()
