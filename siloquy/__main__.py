"""``python -m siloquy`` is the command line."""

from siloquy.cli import main

main()
