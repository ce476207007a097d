"""What the source of a Python project says of its native code before anything of it is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from imagebuilder.errors import UserError
from imagebuilder.host.walk import Item, walk
from imagebuilder.python.build.host_build import BuildBackend, BuildOptions, build_backend
from imagebuilder.python.build.host_build_source import is_left_out

NATIVE_ENDINGS = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs", ".f90", ".f")
_NOT_BUILT = ("test", "doc", "example", "bench")  # folders whose C code is not the package's own
MAX_TEXT_BYTES = 1 << 20
# builds that want more than a C compiler, by what they require or are
_OTHER_TOOLS = {
    "maturin": "Rust",
    "setuptools-rust": "Rust",
    "meson-python": "meson",
    "mesonpy": "meson",
    "scikit-build": "cmake",
    "scikit-build-core": "cmake",
    "cmake": "cmake",
    "sip": "SIP",
}
_EXTENSIONS = re.compile(r"\bExtension\s*\(|\bext_modules\b|\bext-modules\b|\bcffi_modules\b|\bcythonize\b")
# how a project shows that it does without extensions that are not compiled: it marks them, or its own
# build_ext catches what distutils raises
_OPTIONAL = re.compile(r"\boptional\s*=\s*[Tt]rue\b")
_OWN_BUILD = re.compile(r"^\s*class\s+\w+\s*\([^)]*build_ext[^)]*\)", re.MULTILINE)
_CAUGHT = re.compile(
    r"\b(CCompilerError|CompileError|LinkError|\w*ExecError|\w*PlatformError|DistutilsError|Build\w*Failed)\b"
)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """native: files that a compiler would have to see. setuptools: whether that builds it. tools: what its
    build wants besides a C compiler, `Rust (maturin)`, "" where nothing; needs_compiler: whether it names
    extensions and nothing in it shows that it does without them."""

    native: tuple[str, ...]
    setuptools: bool
    tools: str
    needs_compiler: bool


def source_facts(folder: Path) -> SourceFacts:
    """What is known of a project in its folder. HostBuildError where its pyproject.toml cannot be read."""
    native = native_files(folder)
    backend = build_backend(folder, BuildOptions())
    names = _names(backend)
    tools = next((f"{_OTHER_TOOLS[name]} ({name})" for name in names if name in _OTHER_TOOLS), "")
    setuptools = "setuptools" in names
    text = "".join(_text(folder / name) for name in ("setup.py", "setup.cfg", "pyproject.toml"))
    named = setuptools and _EXTENSIONS.search(text) is not None
    does_without = _OPTIONAL.search(text) or (_OWN_BUILD.search(text) and _CAUGHT.search(text))
    return SourceFacts(native, setuptools, tools, bool(native) and named and not does_without)


def _names(backend: BuildBackend) -> list[str]:
    """What builds it, and what that requires, by their distributions' names."""
    found: list[str] = [canonicalize_name(backend.name.partition(":")[0].partition(".")[0])]
    for text in backend.requires:
        try:
            found.append(canonicalize_name(Requirement(text).name))
        except InvalidRequirement:
            continue  # the build itself says which line is wrong
    return found


def _text(file: Path) -> str:
    if not file.is_file() or file.is_symlink():
        return ""
    with file.open("rb") as stream:
        return stream.read(MAX_TEXT_BYTES).decode("utf-8", "replace")


class ProjectError(UserError):
    """A project's folder that cannot be taken."""


def project_items(folder: Path) -> Iterator[Item]:
    """The files and links of a project, and what else is no folder: all that its build gets. ProjectError for
    what cannot be read."""
    top = folder.resolve()

    def counts(path: str) -> bool:
        name = path.rpartition("/")[2]
        return not (name.endswith(".egg-info") or is_left_out(f"{top}/{path}"))

    try:
        for item in walk(top, enter=counts, bounded=True):
            if not item.is_folder and (item.is_file or counts(item.path)):
                yield item
    except OSError as error:
        raise ProjectError(f"{folder}: {error.filename}: {error.strerror}", hint="is it readable?") from error


def native_files(folder: Path) -> tuple[str, ...]:
    """Files of a source that a C compiler or its like would have to see, those of tests and examples left
    out."""
    names = (item.path for item in project_items(folder) if item.path.endswith(NATIVE_ENDINGS))
    return tuple(name for name in names if not name.startswith(_NOT_BUILT))
