#!/bin/sh
# The console: root is not asked for a password there, as on an OpenWrt device without one.

export HOME=/root USER=root LOGNAME=root SHELL=/bin/ash TERM=${TERM:-vt100}
cd /root && exec /bin/ash --login
