"""The corpus: deterministic, consistent with itself, and judged by plain arithmetic."""

import dataclasses
import json
import re

import pytest

from pipeline.demo.corpus import plan
from pipeline.demo.corpus.catalogue import CATALOGUE
from pipeline.demo.corpus.judge import (
    Mismatch,
    Score,
    Verdict,
    judge_findings,
    scores_as_markdown,
)
from pipeline.demo.corpus.score import (
    REGISTRY,
    TRUTH,
    as_json_text,
    as_report,
    score_corpus,
)
from pipeline.demo.generate import Stream, generate
from pipeline.detections.rule import read_rules
from pipeline.errors import ConfigError
from pipeline.registry import load_registry
from tests.factories import NOW

STREAM = Stream(6_000, 3, NOW, places=1)


@pytest.fixture(scope="module")
def corpus():
    return STREAM.corpus()


def first(corpus, code, *, twin=False):
    return next(p for p in corpus.plantings if p.code == code and p.twin is twin)


def finding(code, planting=None, *, entity="somebody", events=None):
    cited = sorted(planting.event_ids)[:1] if events is None and planting else events or []
    return {"rule_code": code, "entity": entity, "identity": "{}", "event_ids": cited}


def test_the_same_seed_plants_the_same_and_another_seed_something_else(corpus):
    again, other = STREAM.corpus(), dataclasses.replace(STREAM, seed=4).corpus()

    assert [p.plot.events for p in again.plantings] == [p.plot.events for p in corpus.plantings]
    assert again.registry() == corpus.registry()
    assert [p.plot.events for p in other.plantings] != [p.plot.events for p in corpus.plantings]


def test_the_stream_holds_every_planted_event_and_exactly_as_many_as_asked_for(corpus):
    batches = [arrivals.batch for arrived in generate(STREAM) for arrivals in arrived]
    told = {event_id for batch in batches for event_id in batch["event_id"].to_pylist()}

    assert sum(batch.num_rows for batch in batches) == STREAM.events
    assert all(planting.event_ids <= told for planting in corpus.plantings)


def test_a_stream_too_short_for_the_corpus_is_refused():
    with pytest.raises(ConfigError, match="15000"):
        Stream(6_000, 3, NOW, places=3)


def test_every_kind_of_every_story_has_its_places_and_no_event_in_common(corpus):
    doubled = dataclasses.replace(STREAM, events=12_000, places=2).corpus()
    kinds = [(p.code, p.kind) for p in doubled.plantings]

    assert all(kinds.count((one.code, kind)) == 2 for one in CATALOGUE for kind in one.kinds)
    assert len(frozenset().union(*(p.event_ids for p in corpus.plantings))) == sum(
        len(p.event_ids) for p in corpus.plantings
    )


def test_every_detection_of_the_catalogue_has_attacks_and_twins():
    codes = {one.code for one in CATALOGUE}
    counts = {"PC": 13, "SP": 8, "LS": 10, "BT": 10, "GO": 11, "TR": 13}

    assert codes == {f"{f}-{n:02d}" for f, count in counts.items() for n in range(1, count + 1)}
    assert all(one.attacks and one.twins for one in CATALOGUE)
    assert {rule.code for rule in read_rules()[0]} <= codes


def test_an_attack_must_be_found_by_its_own_rule_and_a_twin_by_none(corpus):
    for planting in corpus.plantings:
        assert planting.twin is not (planting.code in planting.must)
        assert planting.twin is not bool(planting.must)
        assert not planting.must & planting.may
        assert planting.code not in planting.may


def test_names_say_nothing_of_what_is_planted(corpus):
    for planting in corpus.plantings:
        assert re.fullmatch(r"x\d{4}", planting.name)
        assert all(event_id.startswith(f"{planting.name}-") for event_id in planting.event_ids)


def test_all_planted_events_happen_before_the_end(corpus):
    latest = max(event["event_time"] for plot in corpus.plots for _, event, _ in plot.events)

    assert latest < STREAM.end


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "lake"
    rules = [rule for rule in read_rules()[0] if rule.code in {"TR-12", "GO-01"}]
    with pytest.MonkeyPatch.context() as patch:
        # Each quiet day of the months before is a partition of three tables.
        patch.setattr(plan, "BACKGROUND_DAYS", 3)
        return score_corpus(STREAM, folder, lambda _: None, rules), folder


def test_the_whole_corpus_goes_through_the_pipeline_and_two_rules_are_scored(scored):
    report, _ = scored

    scores = {one.code: (one.planted, one.found) for one in report.verdict.scores}

    assert scores == {"GO-01": (3, 3), "TR-12": (1, 1)}
    assert report.verdict.mismatches == ()
    assert report.meets(1.0)


def test_scores_below_what_is_asked_for_or_a_failed_rule_do_not_meet_it(scored):
    report, _ = scored
    poor = Verdict((Score("PC-01", "a_rule", 2, 1, 0, 0, 0),), ())

    assert not dataclasses.replace(report, failed=("a_rule: broke off",)).meets(0.0)
    assert not dataclasses.replace(report, verdict=poor).meets(0.6)
    assert dataclasses.replace(report, verdict=poor).meets(0.5)


def test_a_report_shows_table_and_mismatches_and_a_program_gets_them_as_json(scored):
    report, _ = scored
    wrong = Verdict((Score("PC-01", "a_rule", 2, 1, 0, 0, 1),), (Mismatch("PC-01", "false", None),))
    poor = dataclasses.replace(report, verdict=wrong)

    text, data = as_report(poor), json.loads(as_json_text(poor))

    assert "PC-01 false: ordinary traffic" in text
    assert f"{STREAM.events:,} events" in text
    assert data["wrong"] == ["PC-01 false: ordinary traffic"]
    assert (data["scores"][0]["precision"], data["scores"][0]["missed"]) == (0.5, 1)


def test_the_registry_of_the_corpus_knows_the_company_and_the_planted_agents(corpus, scored):
    known = load_registry(scored[1] / REGISTRY).tables()["reg_identities"]["identity_id"]

    names = known.to_pylist()
    assert {"planner", "indexer"} < set(names)
    assert sum(name.startswith("x0") for name in names) > len(corpus.plantings)


def test_the_truth_is_written_as_plain_data(corpus, scored):
    rows = json.loads((scored[1] / TRUTH).read_text(encoding="utf-8"))

    assert [row["name"] for row in rows] == [p.name for p in corpus.plantings]
    assert set(rows[0]) == {*("name", "code", "kind", "twin"), "must_fire", "may_fire", "event_ids"}


def test_a_finding_on_an_attack_counts_once_however_often_it_is_made(corpus):
    attack = first(corpus, "TR-12")

    verdict = judge_findings(
        [attack], [finding("TR-12", attack), finding("TR-12", attack)], {"TR-12": "a_rule"}
    )

    assert verdict.scores == (Score("TR-12", "a_rule", 1, 1, 0, 0, 0),)
    assert verdict.mismatches == ()
    assert (verdict.scores[0].precision, verdict.scores[0].recall) == (1.0, 1.0)


def test_a_finding_on_a_twin_or_another_story_or_ordinary_traffic_is_false(corpus):
    attack, twin = first(corpus, "TR-12"), first(corpus, "TR-12", twin=True)
    other = first(corpus, "LS-01")
    findings = [
        finding("TR-12", attack),
        finding("TR-12", twin),
        finding("TR-12", other),
        finding("TR-12", events=["c-1"]),
    ]

    score = judge_findings([attack, twin, other], findings, {"TR-12": "a_rule"}).scores[0]

    assert (score.found, score.false_on_twins, score.false_elsewhere) == (1, 1, 1)
    assert (score.false_on_ordinary, score.precision, score.recall) == (1, 0.25, 1.0)


def test_a_planting_that_no_rule_found_is_missed_and_named(corpus):
    attack = first(corpus, "TR-12")

    verdict = judge_findings([attack], [], {"TR-12": "a_rule"})

    assert (verdict.scores[0].missed, verdict.scores[0].recall) == (1, 0.0)
    assert verdict.scores[0].precision is None
    assert str(verdict.mismatches[0]) == f"TR-12 missed: {attack.name} TR-12 in_payload"


def test_a_finding_without_events_belongs_to_the_planting_whose_name_it_bears(corpus):
    attack = first(corpus, "GO-01")

    found = finding("GO-01", entity=f"{attack.name}-a")

    assert judge_findings([attack], [found], {"GO-01": "r"}).scores[0].found == 1


def test_what_may_fire_besides_is_neither_right_nor_wrong(corpus):
    attack = next(p for p in corpus.plantings if "BT-06" in p.may)

    score = judge_findings([attack], [finding("BT-06", attack)], {"BT-06": "r"}).scores[0]

    assert (score.planted, score.found, score.precision) == (0, 0, None)


def test_the_table_rounds_down_so_that_one_means_all():
    score = Score("PC-01", "a_rule", 1_000, 999, 0, 0, 0)

    row = scores_as_markdown([score]).splitlines()[2]

    assert row == "| PC-01 | a_rule | 1000 | 999 | 1 | 0 | 0 | 0 | 1.00 | 0.99 |"
