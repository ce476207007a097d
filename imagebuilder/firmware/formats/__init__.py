"""Formats of images, one small module each."""
