"""What a result was decided from, written down so that unchanged.py can tell later whether it is the same.

Files and folders are looked at before what is in them is read: what somebody changes meanwhile is then not
what was written down, and the next build decides anew. Once the image is made they are looked at again, since
what was changed and changed back would not be seen later. Files that were read already are compared with what
was read. What cannot be told so (a server is asked, a program says a secret, a project has to be built)
makes the whole of it `indirect`: everything is decided anew each time, and the key of the result compared
(made_of.py). It may take in too much, never too little.
"""

from __future__ import annotations

import codecs
import os
import sys
import zoneinfo
from collections.abc import Iterator, Mapping
from pathlib import Path

from imagebuilder.config.app import AppUse
from imagebuilder.config.lock import lock_path
from imagebuilder.config.model_config import Config, Secret
from imagebuilder.config.overlay import DECLARATION, LoadedOverlay
from imagebuilder.config.places import SECRETS
from imagebuilder.config.request import Request
from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.decide import Decided, Inputs
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.host.run import CLEAN_PATH
from imagebuilder.host.stamps import UNREAD, CannotTellError, Looks, Stamp, StampKind
from imagebuilder.host.tools import TOOLS, emulator_names
from imagebuilder.model.release import is_embedded
from imagebuilder.trust.signing_key import OWN, SECRET, user_keys
from imagebuilder.unchanged import (
    NO_CODE,
    PACKAGE,
    DirectRecord,
    asked_for,
    found_program,
    installed_libraries,
    shadowing,
)

_ENVIRONMENT = ("HOME", "PYTHONTZPATH", "XDG_DATA_HOME")
_BUILT_BY = ("pyproject.toml", "setup.py", "setup.cfg")
# besides those of host/tools.py: what looks scripts over, compiles and tries the device's programs
_MORE_PROGRAMS = ("busybox", "git", "mpy-cross", "python3", *(f"python3.{minor}" for minor in range(6, 20)))


class Stamping:
    """Looks at what a result is decided from, as the decision goes on."""

    def __init__(self, request: Request, inputs: Inputs, looks: Looks) -> None:
        """Look at what is known once the user's files are loaded."""
        self._request, self._inputs, self._looks = request, inputs, looks
        self._stamps: dict[tuple[str, StampKind], Stamp] = {}
        self._feeds: list[Path] = []  # folders
        self.indirect = ""
        try:
            self._begin()
        except UserError as error:
            self.indirect = error.message

    def direct(self, decided: Decided) -> DirectRecord | None:
        """All of it, for a result that was decided so; None where `indirect` says why there is none."""
        if not self.indirect:
            try:
                self._end(decided)
            except UserError as error:
                self.indirect = error.message
        if self.indirect:
            return None
        config = self._inputs.loaded.config
        path = f"{CLEAN_PATH}:{os.environ.get('PATH', '')}"
        names = (*_ENVIRONMENT, *_secret_names(self._inputs))
        record = DirectRecord(
            asked=asked_for(self._request).facts(),
            boards=list(config.boards),
            environment={name: self._variable(name) for name in names},
            libraries=installed_libraries(),
            path=CLEAN_PATH,
            programs={name: list(found_program(name, path)) for name in self.programs()},
            stamps=list(self._stamps.values()),
        )
        odd = next(_no_utf8(record), None)
        if odd is not None:
            self.indirect = f"{odd!r} is not UTF-8, which JSON cannot say"
            return None
        return record

    def programs(self) -> Iterator[str]:
        """The names of the host's programs that a build may call."""
        yield from (tool.name for tool in TOOLS if tool.found is None and {*tool.uses} - {"boot", "tests"})
        yield from _MORE_PROGRAMS
        user = self._inputs.board.emulation.user
        if user is not None:
            yield from emulator_names(user.binary)

    def _variable(self, name: str) -> str:
        return self._looks.keyed(os.environ.get(name, "").encode("utf-8", "surrogateescape"))

    def changed(self) -> Iterator[str]:
        """The paths of what is something else by now than when it was looked at, before it was read: told by
        stat(2), and by the content where that says something else. Of ImageBuilders see look_at_tree()."""
        looks = Looks(self._looks.key)
        for stamp in self._stamps.values():
            # another build may have made the user's key meanwhile, which this one had no use for
            is_no_key = stamp["kind"] == "absent" and Path(stamp["path"]) == user_keys() / OWN / SECRET
            # what the cache has learnt of servers grows meanwhile, by this build too
            of_cache = Path(stamp["path"]).is_relative_to(self._request.cache.absolute())
            if stamp["kind"] not in UNREAD and not (is_no_key or of_cache) and not looks.same(stamp):
                yield stamp["path"]
        yield from (str(each) for each in self._feeds if looks.state(each) != self._looks.state(each))

    def _add(self, path: Path, kind: StampKind, *without: str) -> None:
        """Look at something; where nobody could tell later whether it is the same, the whole is indirect."""
        try:
            stamp = self._looks.stamp(path, kind, without)
        except CannotTellError as error:
            self._cannot(error.message)
        else:
            self._stamps[stamp["path"], stamp["kind"]] = stamp

    def _cannot(self, why: str) -> None:
        self.indirect = self.indirect or why

    def _begin(self) -> None:
        library, config = self._request.library, self._inputs.loaded.config
        self._add(PACKAGE, "folder", *NO_CODE)
        self._add(Path(sys.executable), "status")
        for file in self._inputs.files:
            self._add(file.path, "file")
            if not _says(file.path, file.text):
                self._cannot(f"{file.path} was changed while it was read")
        for path in shadowing(library.root, (file.path for file in self._inputs.files)):
            self._add(path, "file")
        if self._request.locked:
            self._add(lock_path(library, config.name), "file")
        for overlay in self._inputs.overlays:
            self._add_overlay(overlay)
        self._add_secrets()
        if config.mirror.keys is not None:
            self._add_any(library.path(config.mirror.keys))
        for feed in config.feed:
            if feed.key is not None:
                self._add(library.path(feed.key), "file")
            if feed.url and "://" not in feed.url and "{" not in feed.url:
                self._feeds.append(library.path(feed.url))
                self._looks.state(self._feeds[-1])  # _end() stamps it as it is now, before it is read
        self._add_python(config)
        self._add_tree(config)

    def _add_overlay(self, overlay: LoadedOverlay) -> None:
        """By the path that the config has, whose links can lead elsewhere by and by."""
        path = overlay.use.path
        written = overlay.folder if path is None else self._request.library.path(path)
        self._add(written / DECLARATION, "file")
        self._add(written / overlay.files if overlay.declared else written, "folder")
        for name, variable in overlay.overlay.variables.items():
            zone = overlay.use.variables.get(name, variable.default)
            if variable.type == "zone" and isinstance(zone, str) and zone:
                for folder in zoneinfo.TZPATH:
                    self._add(Path(folder) / zone, "file")

    def _add_secrets(self) -> None:
        """secrets.toml is looked at anyway (shadowing()). A command can say something else each time."""
        place = self._request.library.root / SECRETS
        for name in _secret_names(self._inputs):
            if not os.environ.get(name) and not isinstance(_written(place, name), str):
                self._cannot(f"a command says the secret {name}")

    def _add_python(self, config: Config) -> None:
        library, python = self._request.library, config.python
        for app in python.apps:
            self._add_app(app)
        if self._request.locked:
            written = [parse_requirement_line(each.name) for each in python.requirements]
            if any(each.address is not None for each in written):
                self._cannot("a requirement is a path or an address")
        elif python.requirements:
            self._cannot("requirements are looked up in a package index")
        for recipe in python.package:
            if recipe.build and not recipe.source.endswith(".whl") and not self._request.locked:
                self._cannot(f"what it takes to build {recipe.source} is looked up in an index")
            for text in filter(None, (recipe.source, *(f.source for f in recipe.installed_files().values()))):
                self._add_any(library.path(text))

    def _add_app(self, app: AppUse) -> None:
        path = self._request.library.root / expand_home(app.path)
        self._add_any(path)
        if path.is_dir() and any((path / name).exists() for name in _BUILT_BY) and not self._request.locked:
            self._cannot(f"what it takes to build {app.path} is looked up in a package index")
        for shipped in shadowing(self._request.library.root, [path]):
            self._add(shipped, "file")

    def _add_any(self, path: Path) -> None:
        self._add(path, "followed" if path.is_dir() else "file")

    def _add_tree(self, config: Config) -> None:
        given = self._request.tree_given(config)
        if self._request.locked and given is None:
            return  # the lock says which it is
        if given is None and not is_embedded(config.release or ""):
            if not self._request.offline:
                self._cannot("which ImageBuilder the release has by now, its server knows")
            for name in ("names", "seen"):  # of the cache: what is taken for the newest that is known
                self._add(self._request.cache / name, "status")
        elif given is not None and "://" in given:
            self._cannot("the ImageBuilder is at an address")
        elif given is not None:
            tree = expand_home(given)
            self._add(tree, "tree")
            self._add(tree / "dl", "status")  # an index there is taken for its feed's (USED_TREE)

    def _end(self, decided: Decided) -> None:
        """What is known once everything is decided."""
        source, own = decided.source, decided.local.own
        if self._request.tree_given(self._inputs.loaded.config) is None and is_embedded(source.given):
            from imagebuilder.kit.layout import MANIFEST_OF_KIT  # noqa: PLC0415 - with the kit alone

            self._add(source.folder / MANIFEST_OF_KIT, "file")
        for feed in decided.supply.feeds:
            if feed.asks_a_server and not self._request.locked:
                if not self._request.offline:
                    self._cannot(f"the server of feed {feed.name} may have another index by now")
                for name in ("names", "seen"):
                    self._add(self._request.cache / name, "status")
            elif not feed.asks_a_server and feed.folder is not None:
                self._add(feed.folder, "status")
        if own.sources is not None:
            stated = [each for app in own.sources.apps for each in app.stated.requirements]
            if stated and not self._request.locked:
                self._cannot("what apps require is looked up in a package index")
            if any(each.written.address is not None for each in stated):
                self._cannot("an app requires a path or an address")
            for app in own.sources.apps:
                folder = app.path.resolve()
                if not all(file.resolve().is_relative_to(folder) for file in app.stated.read):
                    self._cannot(f"requirements of {app.use.path} are in a file outside of it")
        self._add(user_keys() / OWN / SECRET, "file")


def _no_utf8(value: object) -> Iterator[str]:
    """The texts in a record that are names of files, and no UTF-8."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for each in value:
            yield from _no_utf8(each)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            yield value


def _says(path: Path, text: str) -> bool:
    """Whether a TOML file still says what was read of it."""
    try:
        return path.read_bytes().removeprefix(codecs.BOM_UTF8) == text.encode()
    except OSError:
        return False


def _secret_names(inputs: Inputs) -> Iterator[str]:
    """The secrets that overlays take, by name."""
    for overlay in inputs.overlays:
        for value in overlay.use.variables.values():
            if isinstance(value, Secret):
                yield value.secret


def _written(place: Path, name: str) -> object:
    """What secrets.toml says of a secret; None where it says nothing, or is not right: who reads it says
    so."""
    import tomli  # noqa: PLC0415

    try:
        return tomli.loads(place.read_text("utf-8")).get(name)
    except (OSError, ValueError):
        return None
