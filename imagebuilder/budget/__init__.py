"""Flash and RAM: what an image takes, what would help, and the least change that makes it fit."""
