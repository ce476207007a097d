"""Firmware images: what is in one, whether a board may have it, and how two differ. One small module a
format."""
