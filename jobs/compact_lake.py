"""Merge small files: `delegraph lake compact` as a module, for schedulers."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["lake", "compact", *sys.argv[1:]])
