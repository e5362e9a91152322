"""Bring chains up to date: `delegraph chains build` as a module, for schedulers."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["chains", "build", *sys.argv[1:]])
