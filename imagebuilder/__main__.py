"""`python -m imagebuilder` is `build.py` inside its virtual environment."""

from imagebuilder.cli import main

main()
