"""Runs what was built: the start of its interpreter, commands, an image under system emulation."""
