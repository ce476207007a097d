"""Apps and scripts as packages."""
