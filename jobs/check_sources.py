"""Say which sources are silent, late or unknown: `delegraph coverage check` as a module."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["coverage", "check", *sys.argv[1:]])
