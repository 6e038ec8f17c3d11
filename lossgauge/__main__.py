"""`python -m lossgauge`."""

from lossgauge.cli import main

main()
