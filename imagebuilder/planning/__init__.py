"""Joins what board, config and tree say into a plan."""
