"""Disks and their boot partitions."""
