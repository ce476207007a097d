"""An overlay: files laid over the root file system, some of them templates, `overlays/NAME/`; and the values
that a config gives its variables. Secrets are from the environment, from secrets.toml, or from a command that
secrets.toml names."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, RootModel

from imagebuilder.config.faults import validate
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config, OverlayUse, Secret, VariableValue
from imagebuilder.config.places import SECRETS
from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.beneath import real_folder
from imagebuilder.host.once import Once
from imagebuilder.host.run import ProgramError, run
from imagebuilder.host.time_zone import posix_rule
from imagebuilder.host.walk import walk
from imagebuilder.log import Log
from imagebuilder.model.base import Many, Mode, Model, PackageName, TargetPath, VariableName, Word

DECLARATION = "overlay.toml"
FILES = "files"
MAX_OVERLAY_BYTES = 2 << 30
MAX_TEXT = 65536  # characters; a shell and a terminal cope with that

# what uci refuses on the device ("Parse error"), where nobody sees it; a line's end and a tab it keeps
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list, tuple),
    "zone": (str,),
}
# what editors, file managers, git and Python leave behind
NEVER_MEANT = (".gitkeep", ".DS_Store", "Thumbs.db", "*~", "__pycache__")
COMMAND_SECONDS = 60.0


# as packages.hardware tells which packages serve each
Hardware = Literal["wifi", "ethernet", "usb", "leds", "i2c", "spi"]


class OverlayError(UserError):
    """An overlay that cannot be laid over a root file system."""


LinkText = Annotated[str, Field(max_length=4095, pattern=r"^[^\x00]+$")]  # PATH_MAX less its zero byte


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class Variable(Model):
    """A value that a config may give."""

    type: Literal["string", "integer", "number", "boolean", "list", "zone"] = Field(
        default="string",
        description="What kind of value it takes; a list is one of texts, a zone the name of a time zone"
        " (Europe/Lisbon) or nothing. Left out: `string`.",
    )
    default: VariableValue | None = Field(
        default=None,
        description="The value where a config gives none. Left out: every config has to give one.",
    )
    description: str = Field(
        default="",
        description="What the value is for; the message has it when one is missing. Left out: nothing.",
    )
    secret: bool = Field(
        default=False,
        description="Whether the value is never shown, logged or recorded. Left out: false.",
    )
    pattern: Annotated[str, AfterValidator(_check_pattern)] | None = Field(
        default=None,
        description="A regular expression (Python's) that a text, or each text of a list, must match whole:"
        ' "[0-9]{1,3}". Left out: any text will do.',
    )

    max_bytes: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="How long a text, or each text of a list, may be at most, in bytes of UTF-8: `32` for the"
        " name of a wireless network. Left out: 65,536 characters.",
    )

    def problem(self, value: VariableValue) -> str | None:
        """What is wrong with a value, in words that do not hold it if it is secret; None if nothing is."""
        wanted = _TYPES[self.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and self.type != "boolean"):
            return f"must be a {self.type}, not {_type_name(value)}"
        for text in value if isinstance(value, list | tuple) else (value,):
            shown = "(not shown)" if self.secret else repr(text)
            if not isinstance(text, str):
                continue
            if _CONTROL.search(text) or len(text) > MAX_TEXT:
                return f"{shown[:80]} holds a control character or more than {MAX_TEXT} characters"
            if self.max_bytes is not None and len(text.encode("utf-8", "replace")) > self.max_bytes:
                return f"{shown[:80]} has more than {self.max_bytes} bytes"
            if self.pattern is not None and not re.fullmatch(self.pattern, text):
                about = f": {self.description}" if self.description else ""
                return f"{shown[:200]} does not match {self.pattern}{about}"
            if self.type == "zone" and text and posix_rule(text) is None:
                return f"{shown[:200]} is no time zone that this machine's tzdata knows"
        return None


def _type_name(value: object) -> str:
    names = {bool: "boolean", str: "string", int: "integer", float: "number", list: "list"}
    return names.get(type(value), type(value).__name__)


class Overlay(Model):
    """What `overlay.toml` declares. The files lie beside it in `files/`."""

    name: Word = Field(description="The overlay's name, that of its folder. Left out: that name.")
    description: str = Field(default="", description="A line on what the overlay does. Left out: nothing.")
    packages: Many[PackageName] = Field(
        default=(),
        description='Packages that its files need in the image: `["wpad-basic"]`. Left out: none.',
    )
    hardware: Many[Hardware] = Field(
        default=(),
        description='Hardware of the device that its work needs: `["wifi"]`. What serves it is not taken out'
        " to make an image fit, and an image in which nothing drives it gives a warning. Left out: none.",
    )
    conflicts: Many[Word] = Field(
        default=(), description="Overlays that it cannot stand beside in one image. Left out: none."
    )
    replaces: Many[TargetPath] = Field(
        default=(),
        description="Files of earlier overlays that it brings anew, by their places on the device:"
        ' `["/etc/banner"]`. Left out: a file that two overlays bring is an error.',
    )
    modes: dict[TargetPath, Mode] = Field(
        default_factory=dict,
        description='Modes of files and folders that it brings, in octal: `{ "/etc/wpa.conf" = "0600" }`.'
        " Left out: that of the package's file which it replaces; of what is new, 0755 for folders and for"
        " what its author made executable, 0644 for all else; 0600 and 0700 for what is closed to others"
        " here, what holds a secret, and keys.",
    )
    links: dict[TargetPath, LinkText] = Field(
        default_factory=dict,
        description="Symbolic links that it brings besides those in `files`, by their places on the device:"
        ' `{ "/etc/rc.d/S95meter" = "../init.d/meter" }`; for what cannot hold links, as archives of Python'
        " packages and some file systems cannot. Left out: only those in `files`.",
    )
    ignore: Many[Annotated[str, Field(min_length=1)]] = Field(
        default=(),
        description="Patterns of files and folders below `files` that are not for the device, by their names,"
        ' or with a slash by their paths: `["*.orig", "docs/*"]`; besides .gitkeep, .DS_Store, Thumbs.db, *~'
        " and __pycache__. Left out: only those.",
    )
    variables: dict[VariableName, Variable] = Field(
        default_factory=dict,
        description="The values that configs may give its templates, each in a table `[variables.NAME]`."
        " Left out: none.",
    )

    def ignores(self, path: str) -> bool:
        """Whether a file or folder below `files` is not for the device, or lies in a folder that is not."""
        parts = path.strip("/").split("/")
        for number, name in enumerate(parts, 1):
            above = "/".join(parts[:number])
            for pattern in (*NEVER_MEANT, *self.ignore):
                if fnmatch.fnmatchcase(above if "/" in pattern else name, pattern.strip("/")):
                    return True
        return False

    def problems(self, use: OverlayUse) -> Iterator[tuple[str, str]]:
        """(variable, what is wrong) for all that a config gives; '' for what is missing."""
        for name, value in use.variables.items():
            variable = self.variables.get(name)
            if variable is None:
                continue
            if isinstance(value, Secret):
                if variable.type != "string":
                    yield name, f"is a {variable.type}; only a string can be a secret"
            elif problem := variable.problem(value):
                yield name, problem
        for name, variable in self.variables.items():
            if variable.default is None and name not in use.variables:
                about = f": {variable.description}" if variable.description else ""
                yield "", f"overlay '{self.name}' wants the variable '{name}' ({variable.type}){about}"


@dataclass(frozen=True)
class LoadedOverlay:
    """An overlay as one config uses it. files: the name of the folder in its folder whose content is laid.
    declared: whether overlay.toml declares it; else its files are laid as they are: none is a template."""

    overlay: Overlay
    folder: Path
    use: OverlayUse
    files: str = FILES
    declared: bool = True

    @property
    def root(self) -> Path:
        """The folder whose content is laid over the root file system."""
        return self.folder / self.files

    def values(self, project: Path, once: Once | None = None) -> dict[str, VariableValue]:
        """A value for each variable: the config's, the secret's, or the default. once: where secrets are that
        were had for another board: a command that asks for a password does not ask for each.

        SecretError for a secret that cannot be had or does not match the variable's pattern.
        """
        values: dict[str, VariableValue] = {}
        for name, variable in self.overlay.variables.items():
            value = self.use.variables.get(name, variable.default)
            if isinstance(value, Secret):
                values[name] = find_secret(project, value.secret, variable, once)
            elif value is not None:
                values[name] = value
        return values

    def secrets(self) -> list[str]:
        """The names of its variables (`wifi-client.key`) whose values must not be shown, as given here."""
        return [f"{self.overlay.name}.{name}" for name in self.hidden()]

    def secrets_in_clear(self) -> list[str]:
        """The names of those that stand in a config file for everybody to read."""
        return [
            f"{self.overlay.name}.{name}"
            for name, value in self.use.variables.items()
            if not isinstance(value, Secret) and self._is_secret(name)
        ]

    def shown(self) -> OverlayUse:
        """The use with every secret value blotted out."""
        variables = {
            name: "***" if not isinstance(value, Secret) and self._is_secret(name) else value
            for name, value in self.use.variables.items()
        }
        return self.use.model_copy(update={"variables": variables})

    def hidden(self) -> dict[str, object]:
        """What the config says in place of each value that must not be shown: the secret's name, or
        stars."""
        shown = self.shown().model_dump(mode="json")["variables"]
        return {
            name: shown[name]
            for name, value in self.use.variables.items()
            if isinstance(value, Secret) or self._is_secret(name)
        }

    def open_values(self) -> dict[str, VariableValue]:
        """A value for each variable whose value may be shown: the config's or the default."""
        hidden = self.hidden()
        values = {
            name: self.use.variables.get(name, variable.default)
            for name, variable in self.overlay.variables.items()
            if name not in hidden
        }
        return {
            name: value
            for name, value in values.items()
            if value is not None and not isinstance(value, Secret)
        }

    def _is_secret(self, name: str) -> bool:
        return name in self.overlay.variables and self.overlay.variables[name].secret


def load_overlay(library: Library, name: str) -> tuple[Overlay, Path]:
    """An overlay and its folder. UserError for an unknown one, FaultsError for a wrong declaration,
    BeneathError where its folder is a link, or `overlays` is, OverlayError for too many bytes."""
    folder = library.overlay_folder(name)
    layer = library.shipped if library.comes_along(folder) else library.root
    real_folder(layer.resolve(), str(folder.relative_to(layer)))
    return _declared(library, name, folder), folder


def _declared(library: Library, name: str, folder: Path) -> Overlay:
    _check_size(name, folder, FILES)
    file = library.read(folder / DECLARATION)
    return validate(Overlay, file, {"name": name, **file.values})


def load_use(library: Library, use: OverlayUse) -> LoadedOverlay:
    """The overlay that a config uses, by its name or by its folder, which may be a link: it is the config's
    own word. Raises as load_overlay() does; OverlayError for a path that is no folder."""
    if use.path is None:
        return LoadedOverlay(*load_overlay(library, use.name), use)
    folder = library.path(use.path)
    if not os.path.isdir(folder):  # noqa: PTH112 - raises nothing
        raise OverlayError(f"{folder} is no folder", hint="path names a folder, counted from the project's")
    folder = Path(os.path.realpath(folder))
    if os.path.lexists(folder / DECLARATION):
        return LoadedOverlay(_declared(library, use.name, folder), folder, use)
    if folder == folder.parent:
        raise OverlayError(f"{use.path} is this machine's own root file system", hint="name a folder in it")
    _check_size(use.name, folder.parent, folder.name)
    return LoadedOverlay(Overlay(name=use.name), folder.parent, use, folder.name, declared=False)


def _check_size(name: str, folder: Path, files: str) -> None:
    """OverlayError for more bytes of files than a root file system takes: a sparse file has any number."""
    if real_folder(folder, files) is None:
        return
    size = 0
    for item in walk(folder, files, bounded=True):
        size += item.status.st_size if item.is_file else 0
        if size > MAX_OVERLAY_BYTES:
            raise OverlayError(
                f"overlay '{name}': with {folder / item.path} its files have {size} bytes, more than "
                f"{MAX_OVERLAY_BYTES >> 30} GiB",
                hint="a root file system has no room for that",
            )


def load_overlays(library: Library, config: Config) -> tuple[LoadedOverlay, ...]:
    """All overlays of a config, in their order. Raises as load_overlay() does."""
    return tuple(load_use(library, use) for use in config.overlay)


class SecretError(UserError):
    """A secret that cannot be had. Its value is never part of the message."""


class _Command(Model):
    """A program whose output, without the line's end, is the secret."""

    command: Annotated[Many[str], Field(min_length=1)]


class _SecretsFile(RootModel[dict[VariableName, str | _Command]]):
    """secrets.toml: `NAME = "value"` or `NAME = { command = ["pass", "show", "wifi"] }`."""


def find_secret(project: Path, name: str, variable: Variable, once: Once | None = None) -> str:
    """The secret of that name: the environment variable, or what secrets.toml in the project folder says.
    once: secrets that were had already.

    SecretError if it is nowhere, empty, no value for the variable, or its command fails; FaultsError for a
    secrets.toml that is wrong.
    """
    secret = (once or Once()).get("secret", (project, name), lambda _: _search(project, name), Log())
    # what is no UTF-8 stands in the environment as lone surrogates, in a program's output as U+FFFD
    if any("\ud800" <= character <= "\udfff" or character == "\ufffd" for character in secret):
        raise SecretError(f"the secret '{name}' is not UTF-8 text")
    problem = variable.model_copy(update={"secret": True}).problem(secret)
    if problem is not None:
        raise SecretError(f"the secret '{name}' {problem}")
    return secret


def _search(project: Path, name: str) -> str:
    if given := os.environ.get(name):
        return given
    path = project / SECRETS
    values = validate(_SecretsFile, read_toml(path)).root if os.path.lexists(path) else {}
    found = values.get(name)
    if found is None:
        raise SecretError(
            f"the secret '{name}' is nowhere",
            hint=f"set the environment variable {name}, or write it into {path}",
        )
    if isinstance(found, str):
        if not found:
            raise SecretError(f"the secret '{name}' in {path} is empty")
        return found
    try:
        # the user's own environment: a password manager needs its agent, its home, its terminal
        text = run(found.command, env=dict(os.environ), timeout=COMMAND_SECONDS).stdout
    except ProgramError as error:
        raise SecretError(
            f"the command for the secret '{name}' in {path} exited with {error.code}",
            hint=f"run it by hand: {' '.join(found.command)}",
        ) from None
    secret = text.removesuffix("\n")
    if not secret:
        raise SecretError(f"the command for the secret '{name}' in {path} printed nothing")
    return secret
