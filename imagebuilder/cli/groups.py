"""Groups of options (see options.py and image_options.py) as the parameters of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from imagebuilder.cli.options import Shown, Told

UNUSED = "its own"  # the name under which a command that takes no group has its options


def expanded(
    command: Callable[..., None], *, passes_on: bool = False
) -> tuple[inspect.Signature, dict[str, type[Told]]]:
    """A command's signature with the options of its groups in place of the groups, and the groups by the
    command's names for them. passes_on: another program gets what the command does not know, --quiet and
    --verbose too."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Told]] = {}
    parameters: list[inspect.Parameter] = []
    last = [field.name for field in fields(Shown)]
    for parameter in signature.parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and issubclass(group, Told):
            groups[parameter.name] = group
            parameters += _options(group)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    if not groups and not passes_on:
        groups[UNUSED] = Told
        parameters += _options(Told)
    # help shows first for which board, and last what all commands have
    parameters.sort(key=lambda parameter: (parameter.name in last, parameter.name != "board"))
    return signature.replace(parameters=parameters), groups


def _options(group: type[Told]) -> list[inspect.Parameter]:
    """One for each field. What a field is called is read where its class stands: each of a group's bases has
    imports of its own."""
    hints = get_type_hints(group, include_extras=True)
    parameters = inspect.signature(group).parameters.values()
    return [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]


def gathered(groups: Mapping[str, type[Told]], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, those of groups as a group."""
    left = dict(options)
    for name, group in groups.items():
        left[name] = group(**{field.name: left.pop(field.name) for field in fields(group)})
    return {name: value for name, value in left.items() if name != UNUSED}
