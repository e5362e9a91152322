"""What a source makes of records, as plain rows."""

import json

from pipeline.events.schema import FAMILIES, defaults
from pipeline.ingest.sources import Context, load_adapter


class Told:
    """Rows by family without what is a default; reasons of what was not taken."""

    def __init__(self, name, values, **context):
        values = [
            value if isinstance(value, bytes | None) else json.dumps(value).encode()
            for value in values
        ]
        adapted = load_adapter(name).adapt(values, Context(**context))
        self.rows = {family: [] for family in FAMILIES}
        for batch in adapted.batches:
            known = defaults(batch.family)
            for row in batch.batch.to_pylist(maps_as_pydicts="strict"):
                said = {k: v for k, v in row.items() if k not in known or v != known[k]}
                self.rows[batch.family].append(said)
        self.calls, self.tokens, self.secrets = (
            self.rows[family] for family in ("tool_call", "token_event", "secret_event")
        )
        self.refusals = adapted.refusals
        self.reasons = [item.reason for item in adapted.refusals]
        self.skipped = adapted.skipped


def pick(row, *names):
    """Return these columns of a row; None is a default."""
    return tuple(row.get(name) for name in names)
