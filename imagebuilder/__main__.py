"""`python -m imagebuilder` is `build.py` inside its virtual environment."""

import atexit
import gc

from imagebuilder.cli import main

# what a start loads stays until the end: searching it for what could be freed takes 0.1 s, and once more as
# long at the end
gc.set_threshold(100_000)
atexit.register(gc.freeze)

main()
