"""File trees, filespecs and overlays."""
