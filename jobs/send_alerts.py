"""Tell sinks what they do not know yet: `delegraph alerts send` as a module."""

import sys

from pipeline.cli import main

if __name__ == "__main__":
    main(["alerts", "send", *sys.argv[1:]])
