"""A static site of nightly builds, made of result folders."""
