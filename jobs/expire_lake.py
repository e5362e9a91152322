"""Forget days older than `lake.keep_days`: `delegraph lake expire` as a module."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["lake", "expire", *sys.argv[1:]])
