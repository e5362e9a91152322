"""Adapters that users declare: what a file may say, and what records become."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from pipeline.errors import SourceError
from pipeline.events.schema import enum_symbols
from pipeline.ingest.declared import load_declared
from pipeline.ingest.declared_check import check_declared
from pipeline.ingest.declared_read import MOST_BYTES, read_declared
from pipeline.ingest.run import ingest_files
from pipeline.ingest.sources import Context, load_adapter
from pipeline.lake import open_lake
from tests.factories import NOW
from tests.ingest.adapted import Told

TIME = "2026-03-02T09:00:00Z"
NEEDED = {
    "tool_call": {"event_time": "$.ts", "tool_name": "$.tool", "outcome": "success"}
    | {"agent_id": "$.who"},
    "token_event": {"event_time": "$.ts", "op": "issue", "outcome": "success"}
    | {"credential_issuer": "i", "credential_kind": "jti", "credential_id": "$.jti"},
    "secret_event": {"event_time": "$.ts", "op": "read", "secret_id": "$.key"},
}
RECORD = {"ts": TIME, "tool": "t", "who": "a", "jti": "j", "key": "k"}


def declared(tmp_path, fields, family="tool_call", **top):
    event = {"family": family, "fields": NEEDED[family] | fields}
    content = {"adapter": "mine", "source": "acme", "observer": "gateway", "events": [event]} | top
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return str(path)


def told(tmp_path, fields, *records, family="tool_call", context=None, **top):
    path = declared(tmp_path, fields, family, **top)
    load_adapter.cache_clear()
    return Told(path, [RECORD | record for record in records], **(context or {}))


def faults(text):
    content = text if isinstance(text, bytes) else text.encode()
    return [str(error) for error in read_declared("f.yaml", content)[1]]


def only_faults(fields, family="tool_call"):
    event = {"family": family, "fields": NEEDED[family] | fields}
    top = {"adapter": "mine", "source": "acme", "observer": "gateway", "events": [event]}
    return [fault.partition(": ")[2] for fault in faults(json.dumps(top))]


FAULTY = """\
adapter: Acme Gateway
wraper: events
source: {name: x, instanc: $.a}
observer: gatway
hidden: [a, "$.x[0]"]
recognise: {path: $.a, matches: "x"}
events:
  - family: tool_cal
    fields: {}
  - family: tool_call
    when: {path: $.k}
    fields:
      event_tme: $.ts
      outcome: {path: $.s, map: {ok: sucess}}
      agent_id: $.access_token
      tool_name: $..x
      scopes: $.scope
  - family: token_event
    when: [{path: $.k, matches: "("}, {any: [{any: []}]}]
    fields: [a]
skip: [{when: {path: "$", in: [x]}, reason: r}, {reason: y}]
"""


OBSERVERS = ", ".join(enum_symbols("tool_call")["observer"])
FAMILIES = "tool_call, token_event, secret_event"
WAY_OUT = "take it with digest: true, or not at all"


def test_every_fault_of_a_file_is_told_at_once_with_its_line_and_the_nearest_name():
    assert faults(FAULTY) == [
        'f.yaml:1: "Acme Gateway" is no name: lower-case letters, digits and _ after a letter',
        'f.yaml:2: unknown key "wraper"; did you mean "wrapper"?',
        'f.yaml:3: unknown key "instanc"; did you mean "instance"?',
        f'f.yaml:4: "observer" is "gatway", not one of {OBSERVERS}; did you mean "gateway"?',
        'f.yaml:5: "hidden" must be a path, as $.name',
        'f.yaml:5: "hidden" takes paths of names only, as $.request.body',
        'f.yaml:6: "recognise" takes in, not_in and exists, no matches',
        f'f.yaml:8: "family" is "tool_cal", not one of {FAMILIES}; did you mean "tool_call"?',
        "f.yaml:11: a condition is a path and one of in, not_in, exists, matches",
        'f.yaml:13: "event_tme" is no field of tool_call; did you mean "event_time"?',
        'f.yaml:13: the field "event_time" is missing: every tool_call needs it',
        'f.yaml:14: "sucess" is no value of "outcome"; did you mean "success"?',
        f'f.yaml:15: "access_token" would put a secret or raw content into "agent_id": {WAY_OUT}',
        'f.yaml:16: "$..x" is no path: "..x" cannot stand there',
        'f.yaml:17: "scopes" is no field of tool_call, but of token_event and secret_event',
        'f.yaml:19: "matches" is no regular expression of RE2',
        'f.yaml:19: "any" stands alone, and not within another',
        'f.yaml:20: "fields" must map names of the contract to values',
        "f.yaml:21: a condition looks at one place of the record",
        'f.yaml:21: the key "when" is missing',
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"args_hash": "raw text"}, '"args_hash" is taken from the record, by a path'),
        ({"event_time": TIME}, '"event_time" is taken from the record, by a path'),
        ({"event_time": {"path": "$.ts", "unit": "h"}}, '"unit" is "h", not one of s, ms, us, ns'),
        ({"resource_sensitivity": "high"}, '"resource_sensitivity" is a whole number, not "high"'),
        ({"secret_in_payload": "maybe"}, '"secret_in_payload" is true or false, not "maybe"'),
        ({"tags": {"path": "$.t", "unit": "s"}}, '"tags" takes no unit here'),
        ({"resource": {"path": "$.t", "split": ","}}, '"resource" takes no split here'),
        ({"outcome": {"path": "$.t", "digest": True}}, '"outcome" takes no digest here'),
        ({"resource": "$.a[*].b"}, '"resource" is no list: [*] cannot stand there'),
        ({"args_hash": {"path": "$.a[0]", "digest": True}}, "a digest is taken at a path of names"),
        ({"resource": ["text", "$.x"]}, "only the last of several may be a fixed text"),
        ({"resource": []}, '"resource" needs a list of paths and texts here'),
        ({"resource": {"path": "$.a", "value": "b"}}, "exactly one of path, value, join"),
        ({"resource": {}}, "exactly one of path, value, join must be given"),
        ({"resource": None}, '"resource" must be a path or a text'),
        ({"resource": {"path": "a"}}, '"resource" must be a path, as $.name'),
        ({"resource": "$.a\nb"}, "is no path: it has a control character"),
        ({"resource": "$" + ".a" * 33}, "it has more than 32 steps"),
        ({"tags": "$.a[*].b[*]"}, "[*] may stand in it once"),
        ({"ext": "$.all"}, '"ext" must map names to values'),
        ({"ext": {"password": "$.p"}}, '"password" under "ext" would be a secret or raw content'),
        ({"ext": {"a": "$.request.arguments"}}, '"arguments" would put a secret or raw content'),
        ({"tags": "$.headers.cookie"}, '"cookie" would put a secret or raw content into "tags"'),
        ({"act_chain": {"list": "$.act", "subjct": "$.s"}}, 'unknown key "subjct"; did you mean'),
        ({"act_chain": {"list": "$.act"}}, 'the key "subject" is missing'),
        ({"act_chain": "$.act"}, "expected a mapping with keys issuer, subject, list, nested"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_a_fault(fields, reason):
    assert reason in "\n".join(only_faults(fields))


def test_a_role_of_a_parent_is_one_of_the_contract():
    parent = {"role": "father", "issuer": "i", "kind": "jti", "id": "$.p"}

    [fault] = only_faults({"parents": [parent]}, "token_event")

    assert fault.startswith('"father" is no value of "parents.role"')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "f.yaml:1: the file is empty"),
        (b"null", "expected a mapping"),
        (b"- a", "expected a mapping"),
        (b"a: [", "f.yaml:1:"),
        (b"\xff\xfea\xff", "f.yaml:1:"),
        (b"[" * 5000, "f.yaml:1: nested too deeply to be read as YAML"),
        (b"adapter: &a x\nsource: *a", "f.yaml:2: write it out: anchors and aliases"),
        (b"a: &a [b, b]\nb: &b [*a, *a]\nc: [*b, *b]", "f.yaml:2: write it out"),
        (b'adapter: "a\\0b"', "f.yaml:1: a text holds a NUL character"),
        (b"adapter: x\nadapter: y", 'duplicate key "adapter", first on line 1'),
        (b"x: !!python/object/apply:os.system [ls]", 'unknown key "x"'),
        (b"#" * (MOST_BYTES + 1), f"f.yaml:1: more than {MOST_BYTES} bytes"),
    ],
)
def test_a_file_that_is_no_adapter_is_a_fault_and_nothing_else(text, reason):
    assert reason in "\n".join(faults(text))


def test_loading_tells_all_faults_in_one_error(tmp_path):
    path = tmp_path / "f.yml"
    path.write_text(FAULTY, encoding="utf-8")

    with pytest.raises(SourceError) as caught:
        load_adapter(str(path))

    assert str(caught.value).count(f"{path}:") == len(faults(FAULTY))


@pytest.mark.parametrize("name", ["cloudtrail", "ocsf", "auto"])
def test_a_name_of_the_package_cannot_be_taken(tmp_path, name):
    with pytest.raises(SourceError, match="is an adapter of the package"):
        load_declared(declared(tmp_path, {}, adapter=name))


def test_a_file_that_is_not_there_or_is_a_folder_is_said(tmp_path):
    (tmp_path / "d.yaml").mkdir()

    with pytest.raises(SourceError, match="No such file"):
        load_declared(str(tmp_path / "none.yaml"))
    with pytest.raises(SourceError, match="an adapter is a YAML file"):
        load_declared(str(tmp_path / "d.yaml"))


HOSTILE = "x'); DROP TABLE records; --\" $tenant_id ${a} \\ %s {0} 'é\u202e"


def test_nothing_in_a_file_is_taken_for_sql(tmp_path):
    path = "$[" + json.dumps("a'b; --").replace("\\", "") + "].c"
    result = told(
        tmp_path,
        {
            "resource": HOSTILE,
            "operation": {"path": path, "map": {HOSTILE: HOSTILE}, "default": HOSTILE},
            "ext": {HOSTILE: "$.tool"},
            "tags": [HOSTILE, "b'"],
            "session_id": {"join": ["'", "$.tool", "';"]},
            "act_chain": {"list": "$.act", "nested": "a'ct", "issuer": "'", "subject": "$.sub"},
        },
        {"a'b; --": {"c": HOSTILE}, "act": {"sub": "one", "a'ct": {"sub": "two"}}},
        {},
        source=HOSTILE,
        skip=[{"when": {"path": "$['\"; --']", "in": [HOSTILE]}, "reason": HOSTILE}],
    )

    first, second = result.calls
    assert first["resource"] == first["operation"] == second["operation"] == HOSTILE
    assert first["source"] == HOSTILE
    assert first["ext"] == {HOSTILE: "t"}
    assert first["tags"] == [HOSTILE, "b'"]
    assert first["session_id"] == "'t';"
    assert [one["subject"] for one in first["act_chain"]] == ["one", "two"]


def test_a_path_reads_names_positions_and_the_first_that_is_there(tmp_path):
    result = told(
        tmp_path,
        {
            "resource": ["$.none", '$["odd name"].x', "fallback"],
            "operation": "$.list[-1].id",
            "session_id": "$.list[0].id",
            "task_id": "$.Ts",
            "tags": "$.list[*].id",
            "call_id": "$.deep['a.b'][1]",
        },
        {"odd name": {"x": 5}, "list": [{"id": "p"}, {"id": 2}, "no"], "Ts": "upper"},
        {"deep": {"a.b": [1, 12345678901234567890123]}, "list": {"id": 1}},
    )

    first, second = result.calls
    assert first["resource"] == "5"
    assert (first["session_id"], first["tags"], first["task_id"]) == ("p", ["p", "2"], "upper")
    assert "operation" not in first
    assert (second["resource"], second["call_id"]) == ("fallback", "12345678901234567890123")
    assert second["tags"] == ["1"]  # one object stands for a list of one


def test_the_same_place_may_be_read_whole_and_in_parts(tmp_path):
    result = told(
        tmp_path,
        {
            "resource": ["$.a.b", "$.a"],
            "operation": "$.a.b",
            "args_hash": {"path": "$.a", "digest": True},
            "tags": "$.a[*].b",
        },
        {"a": {"b": "x"}},
        {"a": "y"},
        {"a": [{"b": "z"}]},
    )

    assert [row.get("resource") for row in result.calls] == ["x", "y", None]
    assert [row.get("operation") for row in result.calls] == ["x", None, None]
    assert [row.get("tags") for row in result.calls] == [["x"], None, ["z"]]
    assert len({row["args_hash"] for row in result.calls}) == 3


def test_an_object_or_a_list_never_becomes_a_text(tmp_path):
    nested = {"secret": "s"}
    result = told(
        tmp_path,
        {"resource": "$.a", "ext": {"b": "$.a"}, "tags": "$.a", "tool_name": ["$.a", "$.tool"]},
        {"a": nested},
        {"a": [nested, "plain"]},
        {"a": json.dumps(nested)},
        {"a": "[not json"},
    )

    assert [row.get("resource") for row in result.calls] == [None, None, None, "[not json"]
    assert [row.get("tags") for row in result.calls] == [None, ["plain"], None, ["[not json"]]
    assert [row["tool_name"] for row in result.calls] == ["t", "t", "t", "[not json"]


def test_values_are_mapped_exactly_by_their_beginning_or_by_default(tmp_path):
    mapped = {"path": "$.s", "map": {"200": "success", "5*": "failure", "true": "success"}}
    result = told(
        tmp_path,
        {"outcome": mapped | {"default": "unknown"}, "phase": {"path": "$.p", "map": {"a": "pre"}}},
        *({"s": value, "p": "a"} for value in (200, 503, True, "2000", None, {"5": 1})),
    )

    outcomes = [row["outcome"] for row in result.calls]
    assert outcomes == ["success", "failure", "success", "unknown", "unknown", "unknown"]
    assert {row["phase"] for row in result.calls} == {"pre"}


def test_a_word_that_the_contract_does_not_know_is_refused_never_guessed(tmp_path):
    result = told(
        tmp_path,
        {"outcome": {"path": "$.s", "map": {"ok": "success"}}, "phase": "$.p"},
        {"s": "ok"},
        {"s": "bad"},
        {"s": "ok", "p": "after"},
    )

    assert len(result.calls) == 1
    assert result.reasons == [
        "outcome is missing",
        "phase has a word that the contract does not know",
    ]


@pytest.mark.parametrize(
    ("unit", "given"),
    [
        (None, "2026-03-02T10:00:00+01:00"),
        (None, "2026-03-02 09:00:00.000000000"),
        (None, 1772442000),
        (None, 1772442000000),
        ("s", "1772442000.0"),
        ("ms", 1772442000000),
        ("us", 1772442000000000),
        ("ns", "1772442000000000000"),
    ],
)
def test_a_time_is_rfc_3339_or_a_number_in_its_unit(tmp_path, unit, given):
    path = {"path": "$.ts"} | ({"unit": unit} if unit else {})

    [row] = told(tmp_path, {"event_time": path}, {"ts": given}).calls

    assert row["event_time"] == datetime(2026, 3, 2, 9, tzinfo=UTC)


def test_no_time_a_huge_time_and_a_nested_time_are_refused(tmp_path):
    times = (None, "", "soon", 10**30, -5, {"a": 1}, [1], True, "9999-01-01T00:00:00Z", 1e300)

    for unit in ({}, {"unit": "ms"}, {"unit": "ns"}):
        result = told(
            tmp_path, {"event_time": {"path": "$.ts"} | unit}, *({"ts": time} for time in times)
        )

        assert len(result.reasons) + len(result.calls) == len(times)
        assert {reason.split()[0] for reason in result.reasons} == {"event_time"}
        assert len(result.calls) <= 1  # the year 9999 is no number of milliseconds, 5 ms is one


def test_digests_take_what_no_text_may_and_keep_it_out_of_dead_letters(tmp_path):
    result = told(
        tmp_path,
        {
            "args_hash": {"path": "$.args", "digest": True},
            "result_hash": "$.hash",
            "credential_issuer": "i",
            "credential_kind": "token_sha256",
            "credential_id": {"path": "$.access_token", "digest": True},
        },
        {"args": {"a": 1, "b": 2}, "access_token": "do-not-store", "hash": "ab" * 32},
        {"args": {"b": 2, "a": 1}, "hash": "do not store", "who": None, "access_token": "x"},
        {"args": {"b": 2, "a": 1}, "hash": "do not store"},
    )

    first, third = result.calls
    assert first["args_hash"] == third["args_hash"]
    assert first["credential_id"] == hashlib.sha256(b"do-not-store").hexdigest()
    assert first["result_hash"] == "ab" * 32
    assert "result_hash" not in third
    assert "credential_issuer" not in third
    [refusal] = result.refusals
    assert json.loads(refusal.raw) == RECORD | {"hash": "do not store", "who": None}


def test_lists_of_structs_come_from_items_one_object_or_what_is_written(tmp_path):
    fields = {
        "act_chain": {"list": "$.act", "issuer": "$.iss", "subject": ["$.sub", "$.name"]},
        "parents": [
            {"role": "subject", "issuer": "i", "kind": "jti", "id": "$.parent"},
            {"role": "actor", "issuer": "i", "kind": "jti", "id": "$.actor"},
        ],
        "credential_aliases": {"list": "$.ids", "issuer": "i", "kind": "jti", "id": "$"},
    }
    result = told(
        tmp_path,
        fields,
        {"act": [{"iss": "x", "sub": "a"}, {"name": "b"}, {"iss": "x"}, 7], "parent": "p"},
        {"act": {"sub": "only"}, "actor": "q", "ids": ["k1", {"no": 1}, "k2"]},
        {"act": None, "ids": "k3"},
        family="token_event",
    )

    first, second, third = result.tokens
    assert [(one["issuer"], one["subject"]) for one in first["act_chain"]] == [
        ("x", "a"),
        (None, "b"),
    ]
    assert [(one["role"], one["id"]) for one in first["parents"]] == [("subject", "p")]
    assert [one["subject"] for one in second["act_chain"]] == ["only"]
    assert [one["id"] for one in second["credential_aliases"]] == ["k1", "k2"]
    assert "act_chain" not in third
    assert [one["id"] for one in third["credential_aliases"]] == ["k3"]


def test_nested_actors_are_read_outermost_first_and_marked_where_they_go_too_deep(tmp_path):
    def nested(depth):
        claim = None
        for at in range(depth, 0, -1):
            claim = {"sub": f"a{at}"} | ({"act": claim} if claim else {})
        return claim

    result = told(
        tmp_path,
        {"act_chain": {"list": "$.act", "nested": "act", "issuer": "i", "subject": "$.sub"}},
        {"act": nested(3)},
        {"act": nested(17)},
        {"act": {"sub": "a1", "act": "odd"}},
        {},
    )

    subjects = [[one["subject"] for one in row.get("act_chain", ())] for row in result.calls]
    assert subjects[0] == ["a1", "a2", "a3"]
    assert len(subjects[1]) == 16
    assert subjects[2:] == [["a1"], []]
    assert [row.get("act_truncated") for row in result.calls] == [None, True, None, None]


def test_scopes_are_known_where_the_record_says_them(tmp_path):
    scoped = {"scopes": {"path": "$.scope", "split": ","}}
    result = told(tmp_path, scoped, {"scope": "a, b"}, {"scope": ["c d"]}, {}, family="token_event")
    fixed = told(tmp_path, {"scopes": ["a"]}, {}, family="token_event")
    unsaid = told(tmp_path, {}, {}, family="token_event")

    known = [(row.get("scopes"), row.get("scope_known", True)) for row in result.tokens]
    assert known == [(["a", "b"], True), (["c d"], True), (None, False)]
    assert fixed.tokens[0].get("scope_known", True)
    assert unsaid.tokens[0]["scope_known"] is False


def test_conditions_choose_the_events_of_a_record_and_skips_go_first(tmp_path):
    def event(name, when):
        fields = NEEDED["tool_call"] | {"tool_name": name, "event_id": name}
        return {"family": "tool_call", "when": when, "fields": fields}

    events = [
        event("in", {"path": "$.k", "in": ["a", 1, True]}),
        event("not_in", {"path": "$.k", "not_in": ["a"]}),
        event("exists", [{"path": "$.x", "exists": True}, {"path": "$.y", "exists": False}]),
        event("matches", {"path": "$.k", "matches": "^z+$"}),
        event("any", {"any": [{"path": "$.k", "in": ["q"]}, {"path": "$.x.b", "in": ["c"]}]}),
    ]
    skip = [{"when": {"path": "$.k", "in": ["beat"]}, "reason": "heartbeat"}]
    records = [{"k": "a"}, {"k": 1}, {"k": True, "y": None}, {"k": "zz"}, {"x": {"b": "c"}}]
    records += [{"x": [], "y": 0, "k": "a"}, {"k": "beat", "x": 1}]

    result = told(tmp_path, {}, *records, events=events, skip=skip)

    adapter = load_declared(declared(tmp_path, {}, events=events, skip=skip))
    values = [json.dumps(RECORD | record).encode() for record in records]
    found = [set() for _ in records]
    for batch in adapter.adapt(values, Context()).batches:
        for row, name in zip(batch.rows, batch.batch["tool_name"].to_pylist(), strict=True):
            found[row].add(name)
    assert found == [
        {"in"},
        {"in", "not_in"},
        {"in", "not_in"},
        {"not_in", "matches"},
        {"not_in", "exists", "any"},
        {"in"},
        set(),
    ]
    assert result.skipped == {"heartbeat": 1}
    assert result.refusals == []


def test_source_instance_tenant_and_event_id_have_their_fallbacks(tmp_path):
    source = {"name": "acme.gw", "instance": "$.region"}
    result = told(
        tmp_path,
        {"event_id": "$.id", "tenant_id": "$.org"},
        {"id": "e1", "region": "eu", "org": "o"},
        {},
        source=source,
        context={"instance": "edge", "tenant_id": "t"},
    )

    first, second = result.calls
    assert (first["event_id"], first["source"], first["tenant_id"]) == ("e1", "acme.gw:eu", "o")
    assert (second["source"], second["tenant_id"]) == ("acme.gw:edge", "t")
    assert len(second["event_id"]) == 64


def test_hostile_records_are_rows_or_refusals_and_nothing_is_lost(tmp_path):
    values = [
        None,
        b"",
        b"\x00",
        b"{",
        b"[]",
        b'{"events": []}',
        b'{"events": [1, null, {}]}',
        b'{"ts": NaN}',
        b'{"ts":' + b"[" * 5_000,
        json.dumps({"events": [RECORD, RECORD]}).encode(),
        json.dumps(RECORD | {"who": "x" * 70_000}).encode(),
        json.dumps(RECORD | {"who": "\u0000"}).encode(),
        json.dumps(RECORD | {"ts": 10**400}).encode(),
        json.dumps({name: {"a": [None, {}]} for name in RECORD}).encode(),
        json.dumps([RECORD, 5]).encode(),
    ]
    adapter = load_declared(declared(tmp_path, {}, wrapper="events"))

    adapted = adapter.adapt(values, Context())

    taken = {int(row) for batch in adapted.batches for row in batch.rows}
    refused = {item.row for item in adapted.refusals}
    assert taken | refused == set(range(len(values)))
    assert {9, 14} <= taken
    assert all(item.stage and item.reason and "\n" not in item.reason for item in adapted.refusals)
    assert "xxx" not in "".join(item.reason for item in adapted.refusals)


def test_recognise_is_what_a_record_must_be(tmp_path):
    tests = [
        {"path": "$.product", "in": ["gw", 7, True]},
        {"any": [{"path": "$.a[0]", "exists": True}, {"path": "$.b", "not_in": ["x"]}]},
    ]
    adapter = load_declared(declared(tmp_path, {}, recognise=tests))
    silent = load_declared(declared(tmp_path, {}))

    records = [{"product": "gw"}, {"product": 7, "b": "x", "a": [1]}, {"product": True}]
    others = [
        {},
        {"product": "gw", "b": "x"},
        {"product": ["gw"]},
        {"product": None},
        [],
        None,
        b"",
    ]
    assert all(map(adapter.recognises, records))
    assert not any(map(adapter.recognises, others))
    assert not any(map(silent.recognises, records))


def test_a_check_names_the_fields_that_no_record_filled(tmp_path):
    path = declared(tmp_path, {"resource": "$.resorce", "ext": {"a": "$.a"}})
    sample = tmp_path / "sample.jsonl"
    sample.write_text(json.dumps(RECORD) + "\n{\n", encoding="utf-8")

    report = check_declared(path, [sample])

    assert (report.records, report.rows) == (2, {"tool_call": 1})
    assert report.never_filled == {"tool_call": ["resource", "ext"]}
    assert report.preview["tool_call"]["tool_name"] == "t"
    assert [one.first for one in report.refused] == ["sample.jsonl: record 2"]


def test_the_lake_holds_the_declared_name_and_dead_letters_the_file_to_replay_with(tmp_path):
    path = declared(tmp_path, {"tool_name": "$.tool"})
    sample = tmp_path / "sample.jsonl"
    sample.write_text(json.dumps(RECORD) + "\n" + json.dumps({"ts": TIME}), encoding="utf-8")
    load_adapter.cache_clear()
    lake = open_lake(str(tmp_path / "lake"), create=True)

    ingest_files([sample], adapter=path, sink=lake, now=NOW)

    con = lake.connect()
    assert con.execute("SELECT adapter FROM tool_calls").fetchall() == [("mine",)]
    assert con.execute("SELECT adapter FROM dead_letters").fetchall() == [(path,)]
