"""What goes into an image besides the feeds' packages: file trees, filespecs, local packages."""
