"""Builds a Python project. Never imported: host_build.py hands its text to the Python that builds, in the
sandbox. It needs the standard library alone.

Reads its orders on standard input: what to do, for which backend, with which settings; writes its answer into
a file, because backends print what they like. The interface of backends is that of PEP 517.
"""

import importlib
import json
import runpy
import site
import sys
from pathlib import Path


def main() -> None:
    orders = json.load(sys.stdin)
    site.addsitedir(orders["site"])  # not only the path: .pth files there count, as setuptools' do
    sys.path.insert(0, orders["site"])
    answer = {}
    if orders["do"] == "setup.py":
        sys.argv = ["setup.py", *orders["arguments"]]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_path("setup.py", run_name="__main__")
    else:
        sys.path[:0] = [str(Path(folder).resolve()) for folder in orders["backend_path"]]
        module, _, attributes = orders["backend"].partition(":")
        backend = importlib.import_module(module)
        for attribute in filter(None, attributes.split(".")):
            backend = getattr(backend, attribute)
        settings = orders["settings"] or None
        if orders["do"] == "requires":
            ask = getattr(backend, "get_requires_for_build_wheel", None)
            answer["requires"] = list(ask(settings)) if ask else []
        else:
            answer["wheel"] = backend.build_wheel(orders["out"], settings)
    Path(orders["answer"]).write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main()
