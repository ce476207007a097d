"""Building projects from source, and recipes."""
