"""`python -m pipeline` is `delegraph`."""

from pipeline.cli import main

main()
