"""Says which version an interpreter is, and the most memory that it had, in KiB. Never imported: hello.py
hands its text to Pythons of images: CPython 2 and 3, and MicroPython, all of which read it.
"""

import sys

known = getattr(sys, "implementation", None)
# MicroPython's version_info is that of the language
version = getattr(known, "version", sys.version_info)
sys.stdout.write("version " + ".".join([str(part) for part in version[:3]]) + "\n")
try:
    with open("/proc/self/status") as stream:  # noqa: PTH123 - pathlib is no part of python3-base
        for line in stream:
            if line[:6] == "VmHWM:":
                sys.stdout.write("memory " + line.split()[1] + "\n")
except OSError:
    pass
