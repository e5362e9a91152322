"""Run commands in forked processes that may be killed in the middle.

    python -m tests.jobs.crashing < requests

A request is one line of JSON: a list of runs that start together, each with
`args`, and `dies_after`: the number of commits after which it is killed where it
stands, or null.  Answers with the list of exit codes, negative for a signal.
Importing everything takes a second; a fork takes none.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys

# By name: importing its module would put that in the function's place.
from pipeline.cli import COMMANDS, EXIT_BUG, run
from pipeline.lake.delta import DeltaFolder


def start(request: dict) -> int:
    """Fork one run and return its process id."""
    child = os.fork()
    if child:
        return child
    code = EXIT_BUG
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(nothing, stream)
        if request["dies_after"] is not None:
            die_after(request["dies_after"])
        code = run(request["args"])
    finally:
        os._exit(code)


def die_after(commits: int) -> None:
    """Kill this process as soon as so many commits are in the lake; at once for 0."""
    left = commits
    committed = DeltaFolder._committed

    def counted(folder: DeltaFolder) -> int:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return committed(folder)

    DeltaFolder._committed = counted


def serve() -> None:
    """Answer requests until stdin ends."""
    for name, _ in COMMANDS.values():
        importlib.import_module(f"pipeline.cli.{name}")
    answers = os.dup(1)
    for line in sys.stdin:
        children = [start(request) for request in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        os.write(answers, (json.dumps(codes) + "\n").encode())


if __name__ == "__main__":
    serve()
