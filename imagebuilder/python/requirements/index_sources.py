"""Runs pip to fetch a source distribution. Never imported: index_pip.py hands its text to our own Python.

pip asks a source distribution for its name and version by running its build, with all that this requires,
which takes a minute of some. Its PKG-INFO says them too (every sdist has one), and pip is given that as its
metadata here. Where this pip has no such place, it works as ever.
Arguments: pip's.
"""

import email
import importlib
import os
import runpy
import shutil
import tempfile
import typing


def believe() -> None:
    """Let pip read PKG-INFO."""
    try:
        sources: typing.Any = importlib.import_module("pip._internal.distributions.sdist")
        kind = sources.SourceDistribution
        prepare = kind.prepare_distribution_metadata
    except (ImportError, AttributeError):
        return

    def prepared(source: typing.Any, *given: typing.Any, **named: typing.Any) -> None:
        place = os.path.join(source.req.unpacked_source_directory, "PKG-INFO")  # noqa: PTH118
        if not os.path.isfile(place):  # noqa: PTH113
            prepare(source, *given, **named)
            return
        with open(place, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            version = email.message_from_file(stream).get("Version", "0").strip().replace("-", "_")
        name = source.req.name.replace("-", "_")
        folder = os.path.join(tempfile.mkdtemp(), f"{name}-{version}.dist-info")  # noqa: PTH118
        os.mkdir(folder)  # noqa: PTH102
        shutil.copyfile(place, os.path.join(folder, "METADATA"))  # noqa: PTH118
        source.req.metadata_directory = folder

    kind.prepare_distribution_metadata = prepared


if __name__ == "__main__":
    believe()
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
