"""Delta tables and the DuckDB views over one consistent version of them."""

from pipeline.lake.lake import Lake, open_lake
from pipeline.lake.publication import BuildSession
from pipeline.lake.rewrite import Change
from pipeline.lake.views import halve_memory

__all__ = ["BuildSession", "Change", "Lake", "halve_memory", "open_lake"]
