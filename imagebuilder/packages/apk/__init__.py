"""apk, the package manager of OpenWrt 25.12 and later."""
