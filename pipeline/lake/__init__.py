"""Delta tables and the DuckDB views over one consistent version of them."""

from pipeline.lake.lake import Lake, open_lake
from pipeline.lake.publication import BuildSession
from pipeline.lake.rewrite import Change

__all__ = ["BuildSession", "Change", "Lake", "open_lake"]
