"""Runs pip for another machine's Python. Never imported: index_pip.py hands its text to our own interpreter.

pip is told of the target's version and platforms on its command line, and chooses files by them; but it
evaluates environment markers (`; python_version < "3.10"`) for the Python it runs in. Here they get the
target's values.
First argument: the marker variables as JSON; the rest are pip's.
"""

import importlib
import json
import runpy
import sys
import typing


def main() -> None:
    variables = json.loads(sys.argv[1])
    markers: typing.Any = importlib.import_module("pip._vendor.packaging.markers")
    known = markers.default_environment()
    if known.keys() - variables.keys():
        raise RuntimeError(f"this pip has marker variables that are not known: {sorted(known)}")
    markers.default_environment = lambda: dict(variables)
    sys.argv = ["pip", *sys.argv[2:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
