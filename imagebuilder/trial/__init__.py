"""Runs what was built: an image under system emulation."""

from imagebuilder.trial.errors import TrialError
from imagebuilder.trial.guest import CommandResult, Guest
from imagebuilder.trial.machine import BootMode, boot

__all__ = ["BootMode", "CommandResult", "Guest", "TrialError", "boot"]
