"""`python -m imagebuilder` is `build.py` inside its virtual environment."""

from imagebuilder.cli import run_and_leave

run_and_leave()
