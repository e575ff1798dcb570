"""``python -m manybinder``."""

from manybinder.cli import main

main()
