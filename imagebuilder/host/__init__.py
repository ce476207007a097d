"""The base: the only door to other programs, private views of trees, safe paths."""
