"""Debian's packages of one release, whatever this machine runs: verified, fetched and unpacked, never
installed."""
