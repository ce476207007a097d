"""A build server: the API of OpenWrt's own clients, over this project's configs and its own scheduler."""
