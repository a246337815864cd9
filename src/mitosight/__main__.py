"""`python -m mitosight`."""

from mitosight.cli import main

main()
