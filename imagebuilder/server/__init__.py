"""Mirrors of OpenWrt's download server, releases, archives."""
