"""What the project knows of Python on OpenWrt: which packages there are, and how they ship bytecode."""
