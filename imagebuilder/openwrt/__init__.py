"""An ImageBuilder: its archive, its tree, its `make` and what that prints."""
