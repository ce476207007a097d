"""Secrets: from the environment, from secrets.toml, or from a command that secrets.toml names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel

from imagebuilder.config.faults import validate
from imagebuilder.config.model_overlay import Variable
from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.run import ProgramError, run
from imagebuilder.model.base import Many, Model
from imagebuilder.model.names import VariableName

FILE = "secrets.toml"
COMMAND_SECONDS = 60.0


class SecretError(UserError):
    """A secret that cannot be had. Its value is never part of the message."""


class _Command(Model):
    """A program whose output, without the line's end, is the secret."""

    command: Annotated[Many[str], Field(min_length=1)]


class _SecretsFile(RootModel[dict[VariableName, str | _Command]]):
    """secrets.toml: `NAME = "value"` or `NAME = { command = ["pass", "show", "wifi"] }`."""


def find_secret(
    project: Path, name: str, variable: Variable, environment: Mapping[str, str] = os.environ
) -> str:
    """The secret of that name: the environment variable, or what secrets.toml in the project folder says.

    SecretError if it is nowhere, empty, no value for the variable, or its command fails; FaultsError for a
    secrets.toml that is wrong.
    """
    secret = _search(project, name, environment)
    problem = variable.model_copy(update={"secret": True}).problem(secret)
    if problem is not None:
        raise SecretError(f"the secret '{name}' {problem}")
    return secret


def _search(project: Path, name: str, environment: Mapping[str, str]) -> str:
    if environment.get(name):
        return environment[name]
    path = project / FILE
    values = validate(_SecretsFile, read_toml(path)).root if path.is_file() else {}
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
        text = run(found.command, env=dict(environment), timeout=COMMAND_SECONDS).stdout
    except ProgramError as error:
        raise SecretError(
            f"the command for the secret '{name}' in {path} exited with {error.code}",
            hint=f"run it by hand: {' '.join(found.command)}",
        ) from None
    secret = text.removesuffix("\n")
    if not secret:
        raise SecretError(f"the command for the secret '{name}' in {path} printed nothing")
    return secret
