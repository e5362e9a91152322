"""Run every rule: `delegraph detect` as a module, for schedulers."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["detect", *sys.argv[1:]])
