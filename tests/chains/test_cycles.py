"""Credentials that name each other as parents: an id collision or a forgery."""

from __future__ import annotations

import pytest

from pipeline.chains import build_chains
from pipeline.registry import load_registry
from tests.factories import NOW, token_event, write_events


def exchanged(name, parent):
    return token_event(
        op="exchange",
        credential_id=name,
        parents=[{"role": "subject", "issuer": "https://idp.test", "kind": "jti", "id": parent}],
    )


@pytest.mark.parametrize("length", [1, 2, 5, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_cycle_is_cut_once_and_everything_on_it_and_below_it_is_labelled(lake, length):
    ring = [exchanged(f"c{at}", f"c{(at + 1) % length}") for at in range(length)]
    tail = [exchanged("t1", "c0"), exchanged("t2", "t1")]
    write_events(lake, [*ring, *tail, token_event(credential_id="apart")])

    build_chains(lake, load_registry(None), NOW)

    with lake.connect() as con:
        statuses = con.execute(
            "SELECT status = 'cyclic', id = 'apart', count(*), count(DISTINCT root_key)"
            " FROM chains JOIN credentials USING (credential_key, root_key)"
            " GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        cut = con.execute(
            "SELECT count(*) FROM hop_candidates WHERE reason = 'cut_cycle'"
        ).fetchall()
    assert statuses == [(False, True, 1, 1), (True, False, length + 2, 1)]
    # A credential that names itself has no hop to cut.
    assert cut == [(0 if length == 1 else 1,)]


def test_two_cycles_are_two_roots(lake):
    events = [exchanged("a", "b"), exchanged("b", "a"), exchanged("x", "y"), exchanged("y", "x")]
    write_events(lake, events)

    build_chains(lake, load_registry(None), NOW)

    with lake.connect() as con:
        found = con.execute("SELECT count(*), count(DISTINCT root_key) FROM chains").fetchall()
    assert found == [(4, 2)]
