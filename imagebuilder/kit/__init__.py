"""The embedded kit: a small, honest ImageBuilder, made on the user's machine from Debian packages."""
