"""From TOML to models: reading, merging, and errors that name file, line and key."""
