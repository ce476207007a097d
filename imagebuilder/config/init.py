"""A new config from a few answers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit

from imagebuilder.config.board import Board
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.overlay import Variable, find_secret, load_overlay
from imagebuilder.config.places import SECRETS
from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain_text
from imagebuilder.host.fs import expand_home
from imagebuilder.host.handover import write_new, write_whole
from imagebuilder.model.release import EMBEDDED

MAX_KEY_BYTES = 1 << 16  # of an ssh public key; the largest has some 3 KiB
WIFI_SECRET = "WIFI_KEY"  # noqa: S105 - the name of a secret, not its value


@dataclass(frozen=True)
class Answers:
    """What a newcomer is asked. wifi: join a network, offer one, or neither. ssh_key: a public key's line."""

    board: str
    python: str = "none"
    hostname: str = "OpenWrt"
    wifi: Literal["none", "client", "ap"] = "none"
    ssid: str = ""
    ssh_key: str = ""


def config_values(answers: Answers, board: Board) -> dict[str, Any]:
    """The config as TOML values. A Wi-Fi key is a secret, and so is only named."""
    values: dict[str, Any] = {"extends": "base", "boards": [board.id]}
    if board.profiles_for(EMBEDDED):
        values["release"] = EMBEDDED
    values["python"] = {"variant": answers.python}
    overlays: list[dict[str, Any]] = [{"name": "base", "variables": {"hostname": answers.hostname}}]
    if answers.ssh_key:
        overlays.append({"name": "ssh-keys", "variables": {"keys": [answers.ssh_key]}})
    if answers.wifi != "none":
        variables = {"ssid": answers.ssid, "key": {"secret": WIFI_SECRET}}
        overlays.append({"name": f"wifi-{answers.wifi}", "variables": variables})
    return {**values, "overlay": overlays}


def read_public_key(path: Path) -> str:
    """The key in a file such as ~/.ssh/id_ed25519.pub. UserError if it holds none, or a private one."""
    try:
        text = read_plain_text(expand_home(path), MAX_KEY_BYTES)
    except PlainFileError as error:
        raise UserError(f"cannot read a public key: {error.message}") from error
    if "PRIVATE KEY" in text:
        raise UserError(f"{path} is a private key, which belongs in no image", hint=f"give {path}.pub")
    line = text.strip()
    if not line or "\n" in line:
        raise UserError(f"{path} does not hold one public key", hint="it should be one line, ssh-ed25519 ...")
    return line


def check_answer(library: Library, overlay: str, variable: str, value: str | list[str]) -> None:
    """UserError where an overlay's variable cannot have this value, which is not shown if it is a secret."""
    declared = load_overlay(library, overlay)[0].variables.get(variable)
    problem = declared.problem(value) if declared is not None else None
    if problem is not None:
        raise UserError(problem)


def has_secret(library: Library, overlay: str, variable: str) -> bool:
    """Whether the network's key can be had already. SecretError where what there is cannot be used."""
    declared = load_overlay(library, overlay)[0].variables.get(variable, Variable(secret=True))
    path = library.root / SECRETS
    names = read_toml(path).values if os.path.lexists(path) else {}
    if not os.environ.get(WIFI_SECRET) and WIFI_SECRET not in names:
        return False
    find_secret(library.root, WIFI_SECRET, declared)
    return True


def keep_secret(library: Library, value: str) -> Path:
    """Write the network's key into secrets.toml, which only its owner may read if it is new; where that is.
    FaultsError for a secrets.toml that is none; UserError where it cannot be added to."""
    path = library.root / SECRETS
    if not os.path.lexists(path):
        write_new(path, tomlkit.dumps({WIFI_SECRET: value}).encode(), 0o600)
        return path
    text = tomlkit.dumps({WIFI_SECRET: value}) + read_toml(path).text  # before any table
    write_whole(path, text.encode())
    return path


def check_new(library: Library, name: str) -> Path:
    """Where a new config of that name would stand. UserError for what is no name, and if there is one."""
    path = library.root / "configs" / f"{name}.toml"
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise UserError(f"'{name}' cannot be a config's name", hint="letters, digits, - and _")
    if os.path.lexists(path):
        raise UserError(f"{path} exists already", hint="choose another name, or remove it")
    return path


def new_config(library: Library, name: str, text: str, check: Callable[[], object]) -> Path:
    """Write `configs/NAME.toml`; where it was written. check: raises UserError for a config that is no good,
    and then nothing is left. UserError as check_new()."""
    path = check_new(library, name)
    try:
        write_new(path, text.encode())
    except FileExistsError as error:
        raise UserError(f"{path} exists already", hint="choose another name, or remove it") from error
    try:
        check()
    except UserError:
        path.unlink()
        raise
    return path


def write_config(library: Library, name: str, answers: Answers) -> Path:
    """Write `configs/NAME.toml`, and load it to see that it is good; where it was written.

    UserError if there is one already, or an answer is no good (nothing is left then).
    """
    values = config_values(answers, library.board(answers.board))
    schema = "#:schema ../schemas/config.schema.json\n\n" if library.has_schema("config") else ""
    text = schema + tomlkit.dumps(values)
    return new_config(library, name, text, lambda: load_config(library, name, answers.board))
