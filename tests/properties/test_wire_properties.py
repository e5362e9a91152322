"""Whatever travels is decoded as it was sent, or refused by row; never lost, never a crash."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.events.redact import redact_bytes
from pipeline.events.schema import FAMILIES, avro_schema, defaults
from pipeline.events.wire import decode_batch
from tests.events.wire_forms import Lookup, as_json, event, framed, single_object

_TIMES = st.integers(0, 4_000_000_000_000_000)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _values(declared, named):  # noqa: PLR0911 - one for each type
    if isinstance(declared, list):
        return st.one_of(st.none(), _values(declared[1], named))
    if isinstance(declared, str):
        if declared in named:
            return named[declared]
        return {
            "string": _TEXTS,
            "boolean": st.booleans(),
            "int": st.integers(-(2**31), 2**31 - 1),
            "long": st.integers(-(2**63), 2**63 - 1),
        }[declared]
    match declared["type"]:
        case "enum":
            return st.sampled_from(declared["symbols"])
        case "array":
            return st.lists(_values(declared["items"], named), max_size=3)
        case "map":
            return st.dictionaries(_TEXTS, _values(declared["values"], named), max_size=3)
        case "record":
            named[declared["name"]] = st.fixed_dictionaries(
                {f["name"]: _values(f["type"], named) for f in declared["fields"]}
            )
            return named[declared["name"]]
        case _:
            return _TIMES if "logicalType" in declared else _values(declared["type"], named)


def _events(family):
    named = {}
    fields = {f["name"]: _values(f["type"], named) for f in avro_schema(family)["fields"]}
    if family == "token_event":
        for name in ("credential_issuer", "credential_kind", "credential_id"):
            fields[name] = fields[name].filter(lambda value: value is not None)
    return st.fixed_dictionaries({"family": st.just(family), **fields})


_ANY = st.one_of(*(_events(family) for family in FAMILIES))


def _row(batch):
    found = {}
    for name, column in zip(batch.batch.schema.names, batch.batch.columns, strict=True):
        value = column.cast("int64")[0] if str(column.type).startswith("timestamp") else column[0]
        found[name] = value.as_py()
    found["ext"] = dict(found["ext"])
    return found


@_QUIET
@given(_ANY)
def test_an_event_comes_out_of_every_form_as_it_went_in(sent):
    forms = [framed(sent), single_object(sent), as_json(sent)]

    decoded = decode_batch(forms, registry=Lookup())

    assert decoded.failures == []
    rows = {int(batch.rows[0]): _row(batch) for batch in decoded.batches if len(batch.rows) == 1}
    wanted = {name: value for name, value in sent.items() if name != "family"}
    assert rows == {0: wanted, 1: wanted, 2: wanted}
    assert len({batch.event_uids[0].as_py() for batch in decoded.batches}) == 1


@_QUIET
@given(_ANY, st.randoms(use_true_random=False))
def test_two_different_events_never_share_an_event_uid(sent, dice):
    name = dice.choice(["event_id", "source", "tenant_id"])
    other = {**sent, name: sent[name] + "x"}

    decoded = decode_batch([framed(sent), framed(other)], registry=Lookup())

    assert len({uid for batch in decoded.batches for uid in batch.event_uids.to_pylist()}) == 2


@_QUIET
@given(_ANY)
def test_defaults_may_be_left_out_without_changing_the_event_uid(sent):
    known = defaults(sent["family"])
    short = {n: v for n, v in sent.items() if n not in known or v != known[n]}

    decoded = decode_batch([as_json(sent), as_json(short)], registry=None)

    assert len({uid for batch in decoded.batches for uid in batch.event_uids.to_pylist()}) == 1


def _accounted(values):
    decoded = decode_batch(values, registry=Lookup())
    rows = [int(row) for batch in decoded.batches for row in batch.rows]
    rows += [failure.row for failure in decoded.failures]
    assert sorted(rows) == list(range(len(values)))
    for batch in decoded.batches:
        batch.batch.validate(full=True)
        assert len(batch.event_uids) == len(batch.rows) == batch.batch.num_rows
    return decoded


def _mutated(value, dice):
    raw = bytearray(value)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(raw))
        match dice.randrange(4):
            case 0:
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at:]
            case 2:
                raw[at:at] = dice.randbytes(dice.randint(1, 9))
            case _:
                raw[at] ^= 1 << dice.randrange(8)
        raw = raw or bytearray(b"{")
    return bytes(raw)


@_QUIET
@given(st.lists(_ANY, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_changed_bytes_never_crash_and_never_lose_a_row(sent, dice):
    values = [form(one) for one in sent for form in (framed, single_object, as_json)]
    values += [_mutated(value, dice) for value in values]
    dice.shuffle(values)

    _accounted(values)


def test_thousands_of_random_and_mutated_values_never_lose_a_row():
    dice = random.Random(7)
    good = [form(event(family)) for family in FAMILIES for form in (framed, single_object, as_json)]
    heads = [b"", b"\0", b"\0\0\0\0\1", good[1][:10], b"{", b"[", b'{"family":"tool_call",']
    values = [dice.choice(heads) + dice.randbytes(dice.randint(0, 60)) for _ in range(1500)]
    values += [_mutated(dice.choice(good), dice) for _ in range(1500)]
    values += [None, *good]

    decoded = _accounted(values)

    taken = {int(row) for batch in decoded.batches for row in batch.rows}
    assert set(range(len(values) - len(good), len(values))) <= taken
    assert all(len(redact_bytes(v)) == len(v) for v in values if v)
