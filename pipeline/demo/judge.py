"""What the detections said of the planted stories, their twins and everybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.demo.produce import truth_of

if TYPE_CHECKING:
    import duckdb

    from pipeline.demo.generate import Stream

# One row per open finding, with the producers' ids of its evidence.
EVIDENCE = """
SELECT finding.finding_id, finding.rule_code, finding.entity, finding.identity,
       coalesce(list(DISTINCT event.event_id) FILTER (WHERE event.event_id IS NOT NULL), [])
         AS event_ids
FROM (
  SELECT finding_id, rule_code, entity, identity,
         -- A finding that the registry alone shows has no events.
         unnest(if(len(event_uids) > 0, event_uids, [NULL])) AS event_uid
  FROM findings WHERE status = 'open'
) AS finding
LEFT JOIN (
  SELECT event_uid, event_id FROM tool_calls
  UNION ALL SELECT event_uid, event_id FROM token_events
  UNION ALL SELECT event_uid, event_id FROM secret_events
) AS event USING (event_uid)
GROUP BY ALL ORDER BY ALL
"""

Row = dict[str, Any]


def judge(con: duckdb.DuckDBPyConnection, stream: Stream) -> tuple[list[Row], list[Row]]:
    """Return the planted stories with `found`, the codes that fired, and all other findings.

    A finding belongs to a story when at least one of its events does; the others
    accuse ordinary traffic, which is benign.
    """
    findings: list[Row] = con.sql(EVIDENCE).to_arrow_table().to_pylist()
    stories = truth_of(stream)
    for story in stories:
        mine = set(story["event_ids"])
        story["found"] = sorted({f["rule_code"] for f in findings if mine & set(f["event_ids"])})
    planted = {event_id for story in stories for event_id in story["event_ids"]}
    return stories, [f for f in findings if not planted & set(f["event_ids"])]


def is_right(story: Row) -> bool:
    """Return whether a story was found with all its rules, or a twin left in peace."""
    found, wanted = set(story["found"]), set(story["rules"])
    return not found if story["twin"] else wanted <= found
