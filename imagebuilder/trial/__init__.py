"""Runs what was built: an image under system emulation."""

from imagebuilder.trial.guest import CommandResult, Guest, TrialError
from imagebuilder.trial.machine import BootMode, boot

__all__ = ["BootMode", "CommandResult", "Guest", "TrialError", "boot"]
