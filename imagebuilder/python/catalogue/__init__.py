"""OpenWrt's Python packages: which module is in which, variants, sizes."""
