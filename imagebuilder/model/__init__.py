"""Frozen types that the steps exchange. They do no I/O."""
