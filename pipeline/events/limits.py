"""How large an event may be: the one place where the contract's limits stand.

A record over a limit becomes a dead letter of stage `limit`: cutting an id or a
scope would make another id or scope of it.  The chain of actors is the
exception.  It is history that only supports other evidence, so a longer one is
cut, marked `act_truncated`, and the row's `parse_status` is `partial`.
"""

from __future__ import annotations

# A record as it travels, frame included.  Kafka's own default for a message.
MAX_RECORD_BYTES = 1024 * 1024

# One text value, in UTF-8.
MAX_TEXT_BYTES = 64 * 1024

# One scope; the longest that real servers hand out are policy ARNs and URNs.
MAX_SCOPE_BYTES = 4 * 1024
SCOPE_FIELDS = frozenset({"scopes", "requested_scopes", "required_scopes", "presented_scopes"})

# Items of one list.
MAX_LIST_ITEMS = 10_000

# Entries of `ext`, the fields without a column among them.
MAX_EXT_ENTRIES = 1_000

# Actors kept of one `act_chain`, the current one first.
MAX_ACTORS = 100

# Microseconds since 1970 that any time may have: the years 1 to 9999.
MIN_TIME_US = -62_135_596_800_000_000
MAX_TIME_US = 253_402_300_799_999_999

# `event_time` decides partitions and watermarks, so a sentinel such as the year
# 9999 must not stand there: 1970 to 2199.
MIN_EVENT_TIME_US = 0
MAX_EVENT_TIME_US = 7_258_118_399_999_999
