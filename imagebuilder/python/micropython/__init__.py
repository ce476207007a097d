"""MicroPython."""
