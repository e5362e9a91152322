"""The notebook's way in: DataFrame in and out, the same answers as the SQL.

inv = open_investigation("./lake")
inv.findings(severity=3)
inv.chain(finding_id)
inv.graph(finding_id)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import networkx as nx

from pipeline.chains.show import load_chain
from pipeline.chains.steps import sql
from pipeline.errors import QueryError
from pipeline.investigate.text import render_path
from pipeline.lake import open_lake

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from pipeline.chains.show import Path


class Investigation:
    """A lake at one version, read-only."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con

    def sql(self, query: str, **values: Any) -> pd.DataFrame:
        """Return the rows of a query over the views; values are bound by name."""
        rows: pd.DataFrame = (
            self._con.sql(query, params=values or None).to_arrow_table().to_pandas()
        )
        return rows

    def findings(self, *, severity: int = 1, status: str | None = None) -> pd.DataFrame:
        """Return findings of at least a severity (1 to 5), the worst and newest first."""
        return self.sql(
            "SELECT severity, rule_code, title, entity, status, first_seen, last_seen, confidence,"
            " chain_path, finding_id FROM findings WHERE severity >= $severity"
            " AND ($status IS NULL OR status = $status)"
            " ORDER BY severity DESC, last_seen DESC, finding_id",
            severity=severity,
            status=status,
        )

    def path(self, key: str) -> Path:
        """Return the chain behind a credential, call or finding.

        Raises:
            QueryError: nothing in the lake has that id.
        """
        path = load_chain(self._con, key)
        if path is None:
            raise QueryError(f"no credential, call or finding {key!r} with a chain in this lake")
        return path

    def text(self, key: str) -> str:
        """Return the chain as text for a ticket."""
        return render_path(self.path(key))

    def chain(self, key: str) -> pd.DataFrame:
        """Return the hops of a chain, root first."""
        path = self.path(key)
        return self.sql(sql("show_hops"), key=path.credential_key)

    def graph(self, key: str) -> nx.DiGraph:
        """Return the chain as a graph: credentials, and the tools that the last one called."""
        path = self.path(key)
        graph = nx.DiGraph(path_id=path.path_id, status=path.status)
        for step in path.steps:
            graph.add_node(
                step.credential_key,
                label=step.acting or "?",
                kind="credential",
                scopes=list(step.scopes),
            )
        for parent, child in zip(path.steps, path.steps[1:], strict=False):
            graph.add_edge(
                parent.credential_key,
                child.credential_key,
                kind=child.hop_kind,
                method=child.method,
                attenuation=child.attenuation,
            )
        for call in path.calls:
            tool = f"tool:{call.tool_name}:{call.target or ''}"
            graph.add_node(
                tool, label=call.tool_name, kind="tool", scopes=list(call.missing_scopes)
            )
            graph.add_edge(path.credential_key, tool, kind="call", calls=call.calls)
        return graph


def open_investigation(lake: str) -> Investigation:
    """Return an investigation of a lake, as it is now.

    Raises:
        LakeError: the folder is no lake.
    """
    return Investigation(open_lake(lake).connect())
