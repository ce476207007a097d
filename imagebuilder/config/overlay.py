"""An overlay's declaration, and the values that a config gives its variables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.faults import validate
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config, OverlayUse, Secret, VariableValue
from imagebuilder.config.model_overlay import Overlay
from imagebuilder.config.secrets import find_secret
from imagebuilder.config.toml import read_toml
from imagebuilder.host.fs import sha256_of


@dataclass(frozen=True)
class LoadedOverlay:
    """An overlay as one config uses it."""

    overlay: Overlay
    folder: Path
    use: OverlayUse

    def values(self, project: Path) -> dict[str, VariableValue]:
        """A value for each variable: the config's, the secret's, or the default.

        SecretError for a secret that cannot be had or does not match the variable's pattern.
        """
        return dict(self._values(project))

    def _values(self, project: Path) -> Iterator[tuple[str, VariableValue]]:
        for name, variable in self.overlay.variables.items():
            value = self.use.variables.get(name, variable.default)
            if isinstance(value, Secret):
                yield name, find_secret(project, value.secret, variable)
            elif value is not None:
                yield name, value

    def secrets(self) -> list[str]:
        """The names of its variables (`wifi-client.key`) whose values must not be shown, as given here."""
        return [
            f"{self.overlay.name}.{name}"
            for name, value in self.use.variables.items()
            if isinstance(value, Secret) or self._is_secret(name)
        ]

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

    def digest(self) -> str:
        """SHA-256, in hex, over its files and its variables, the values of secrets left out."""
        shown = self.shown().model_dump(mode="json")
        whole = hashlib.sha256(json.dumps(shown["variables"], sort_keys=True).encode())
        for path in sorted(self.folder.rglob("*")):
            if path.is_symlink():
                facts = ("link", str(path.readlink()))
            elif path.is_file():
                facts = ("file", f"{path.stat().st_mode & 0o111 != 0} {sha256_of(path)}")
            else:
                facts = ("folder", "")
            whole.update(repr((str(path.relative_to(self.folder)), *facts)).encode())
        return whole.hexdigest()

    def _is_secret(self, name: str) -> bool:
        return name in self.overlay.variables and self.overlay.variables[name].secret


def load_overlay(library: Library, name: str) -> tuple[Overlay, Path]:
    """An overlay and its folder. UserError for an unknown one, FaultsError for a wrong declaration."""
    folder = library.overlay_folder(name)
    file = read_toml(folder / "overlay.toml")
    return validate(Overlay, file, {"name": name, **file.values}), folder


def load_overlays(library: Library, config: Config) -> tuple[LoadedOverlay, ...]:
    """All overlays of a config, in their order. Raises as load_overlay() does."""
    return tuple(LoadedOverlay(*load_overlay(library, use.name), use) for use in config.overlay)
