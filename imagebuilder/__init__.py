"""Declarative OpenWrt firmware builder whose speciality is Python on small routers."""
