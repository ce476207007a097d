"""opkg, the package manager of OpenWrt up to 24.10."""
