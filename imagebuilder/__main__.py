"""`python -m imagebuilder` is `build.py` inside its virtual environment."""

import atexit
import gc
import os
import sys

from imagebuilder.cli import main

# what a start loads stays until the end: searching it for what could be freed takes 0.1 s
gc.set_threshold(100_000)

try:
    main()
except SystemExit as ended:
    # everything is closed and written by now: taking what was loaded apart piece by piece takes 0.04 s
    if isinstance(ended.code, int):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code)
    raise
