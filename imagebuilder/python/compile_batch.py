"""Compiles a batch of sources. Never imported: bytecode.py hands its text to the target's Python.

Reads a manifest on standard input, writes .pyc files, answers on standard output. It needs the standard
library alone, and nothing that is newer than Python 3.7.
"""

import base64
import importlib.util
import json
import marshal
import sys
from pathlib import Path

# PEP 552: valid by the source's hash, looked at wherever the source is there, or believed
FLAGS = {"checked-hash": 0b11, "unchecked-hash": 0b01, "timestamp": 0b00}


def header(text: bytes, validity: str, epoch: int) -> bytes:
    """What stands before the code: by what the interpreter tells that it is this source's."""
    flags = FLAGS[validity].to_bytes(4, "little")
    if validity == "timestamp":
        size, mtime = len(text) & 0xFFFFFFFF, epoch & 0xFFFFFFFF
        return importlib.util.MAGIC_NUMBER + flags + mtime.to_bytes(4, "little") + size.to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(text)


def main() -> None:
    manifest = json.load(sys.stdin)
    optimize, validity, epoch = manifest["optimize"], manifest["validity"], manifest["epoch"]
    magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    failures = []
    # another version is for the caller to refuse, who knows which one is wanted
    sources = manifest["sources"] if magic == manifest["magic"] else []
    for number, source in enumerate(sources, manifest["start"]):
        try:
            text = Path(source["file"]).read_bytes() if "file" in source else base64.b64decode(source["data"])
            code = compile(text, source["name"], "exec", dont_inherit=True, optimize=optimize)
        except (SyntaxError, ValueError, OSError, OverflowError, RecursionError, MemoryError) as error:
            failures.append((source["name"], f"{type(error).__name__}: {error}"))
        else:
            data = header(text, validity, epoch) + marshal.dumps(code)
            Path(manifest["into"], f"{number:06d}.pyc").write_bytes(data)
    json.dump({"magic": magic, "version": sys.version.split()[0], "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main()
