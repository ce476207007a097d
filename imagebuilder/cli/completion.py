"""`build.py completion`: what a shell reads, so that it completes this command's words."""

from __future__ import annotations

import shutil
from typing import Annotated, Literal

import typer

from imagebuilder.cli.guard import guarded


@guarded
def completion(
    context: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell is to read it.")],
) -> None:
    """Print what makes a shell complete commands, options, boards and configs.

    bash: eval "$(… completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc, behind compinit; fish:
    … completion fish | source in ~/.config/fish/config.fish.
    """
    from typer._completion_shared import get_completion_script  # what --show-completion prints

    from imagebuilder.errors import UserError

    program = context.find_root().info_name or ""
    if shell != "bash" and shutil.which(program) is None:  # bash alone calls it as it was typed
        raise UserError(
            f"{shell} starts {program} by its name to complete, and it is not on the PATH",
            hint="install this program, or add its folder to PATH",
        )
    variable = f"_{program}_COMPLETE".replace("-", "_").upper()  # as typer looks for it
    print(get_completion_script(prog_name=program, complete_var=variable, shell=shell))
