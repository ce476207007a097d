"""Declarative OpenWrt firmware builder whose speciality is Python on small routers."""

__version__ = "0.1.0"
