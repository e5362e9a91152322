"""Run every window that is not done: `delegraph detect --catch-up` as a module, for schedulers."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["detect", "--catch-up", *sys.argv[1:]])
