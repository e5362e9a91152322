"""Chains: from token events and tool calls to credentials, hops, chains and calls.

`build_chains` is the stage; `steps.py` lists its statements in order.
"""

from pipeline.chains.build import BuildReport, build_chains

__all__ = ["BuildReport", "build_chains"]
