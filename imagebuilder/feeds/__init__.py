"""Package feeds: their indexes, versions, and which packages an image needs. Pure but for reading a file."""
