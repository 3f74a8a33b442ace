"""Routers side by side: measures by hand, every track over a small federation, the whole run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from siloquy.aggregator.merge import merge
from siloquy.cli import app
from siloquy.errors import UsageError
from siloquy.eval.attacks.routing import merged
from siloquy.eval.routing import attacked, changes, measures, promises
from siloquy.eval.routing.context import RoutingConfig
from siloquy.eval.routing.routers import ROUTERS, Trial, atlas_of
from siloquy.eval.routing.rows import Notes
from siloquy.eval.routing.run import measure, run, run_labels
from siloquy.eval.scene import K, Offers, build
from siloquy.types import DocumentTag, Handle, Hit, NodeId, QueryId, SearchReply
from tests.eval.small_scene import PASSAGES, QUESTIONS, SILOS, small_scene

SCORES = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.8]])
HELD = np.array([[6.0, 4.0, 0.0], [0.0, 0.0, 10.0]])


def trial(seed: int = 0) -> Trial:
    order = np.random.default_rng(seed).permutation(QUESTIONS)
    return Trial(small_scene(), order[: QUESTIONS // 2], order[QUESTIONS // 2 :], seed)


# -- measures -------------------------------------------------------------------------------------


def test_the_best_of_each_question_is_always_asked() -> None:
    assert measures.chosen(SCORES, 1.0).tolist() == [[True, False, False], [False, False, True]]
    assert measures.above(SCORES, 2.0).sum(axis=1).tolist() == [1, 1]


def test_the_next_is_asked_where_its_score_is_highest() -> None:
    assert measures.chosen(SCORES, 1.5).tolist() == [[True, True, False], [False, False, True]]


def test_what_is_kept_is_what_the_asked_hold() -> None:
    asked = np.array([[True, False, False], [False, True, True]])
    assert measures.kept(asked, HELD).tolist() == [0.6, 1.0]


def test_silos_are_counted_until_enough_is_kept() -> None:
    assert measures.silos_for(SCORES, HELD, 0.8) == 1.0
    assert measures.silos_for(SCORES, HELD, 0.9) == 1.5


@given(st.integers(0, 50), st.floats(0.1, 1.0))
def test_more_silos_never_keep_less(seed: int, wanted: float) -> None:
    generator = np.random.default_rng(seed)
    scores, held = generator.random((9, 5)), generator.integers(0, 4, (9, 5)).astype(float)
    held[:, 0] += 1
    mean = measures.silos_for(scores, held, wanted)
    few, more = (measures.kept(measures.chosen(scores, m), held).mean() for m in (mean, mean + 1))
    assert few >= wanted - 1e-9
    assert more >= few


def test_ndcg_is_one_for_the_right_order() -> None:
    assert measures.ndcg(HELD, HELD).tolist() == [1.0, 1.0]
    assert measures.ndcg(-HELD, HELD)[1] < 0.6


def test_recall_and_hits_are_of_relevant_documents() -> None:
    offers = Offers(np.array([0, 1]), np.array([0.9, 0.8]), np.zeros(2), np.array([0, 1]))
    asked, relevant = np.array([[True, False]]), [frozenset({0, 1})]
    assert measures.recall(asked, [offers], relevant).tolist() == [0.5]
    assert measures.all_hit(asked, relevant, np.array([0, 1])).tolist() == [0.0]
    assert np.isnan(measures.recall(asked, [offers], [frozenset()])).all()


def test_documents_count_once_by_their_best_passage() -> None:
    offers = Offers(np.zeros(3, int), np.array([0.9, 0.8, 0.7]), np.zeros(3), np.array([5, 5, 6]))
    assert offers.best_documents(np.array([True]), 2).tolist() == [5, 6]
    assert offers.best(np.array([True]), 2).tolist() == [0, 1]


@given(st.integers(0, 200), st.integers(0, 25))
def test_the_best_are_those_that_the_hub_merges(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    offers = Offers(
        np.sort(generator.integers(0, 4, n)),
        generator.random(n),
        generator.random(n) * generator.integers(0, 2, n),
        generator.integers(0, 9, n) * 4,
    )
    # A document lies at one silo.
    offers = replace(offers, documents=offers.documents + offers.silos)
    asked = generator.random(4) < 0.7
    handles = {Handle(i.to_bytes(16)): i for i in range(n)}
    hits = [
        Hit(handle, DocumentTag(int(offers.documents[i]).to_bytes(8)), *scores)
        for (handle, i), *scores in zip(
            handles.items(), offers.dense.tolist(), offers.lexical.tolist(), strict=True
        )
    ]
    replies = [
        SearchReply(
            QueryId(bytes(16)),
            NodeId(f"silo-{silo}"),
            tuple(hit for hit, own in zip(hits, offers.silos, strict=True) if own == silo),
        )
        for silo in np.flatnonzero(asked)
    ]
    passages = [handles[winner.handle] for winner in merge(replies, K, "passage")]
    assert offers.best(asked).tolist() == passages
    documents = [handles[winner.handle] for winner in merge(replies, K, "document")]
    assert offers.best_documents(asked).tolist() == offers.documents[documents].tolist()
    quotas = {NodeId("silo-0"): 2, NodeId("silo-1"): 1}
    rows = np.flatnonzero(asked[offers.silos])
    names = [NodeId(f"silo-{silo}") for silo in offers.silos[rows]]
    won = merged(names, offers.scores(rows), quotas)
    bound = [handles[winner.handle] for winner in merge(replies, K, "passage", quotas)]
    assert rows[won].tolist() == bound


# -- routers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ROUTERS if name != "RAGRoute's MLP"])
def test_every_router_scores_every_pair(name: str) -> None:
    scores = ROUTERS[name](trial())
    assert scores.shape == (QUESTIONS // 2, SILOS)
    assert np.isfinite(scores).all()


def test_routers_that_read_content_beat_those_that_do_not() -> None:
    one = trial()
    held = one.scene.held[one.test]
    asked = {
        name: measures.silos_for(ROUTERS[name](one), held, 0.95)
        for name in ("size", "one centroid", "ours, no noise", "oracle")
    }
    assert asked["oracle"] <= asked["ours, no noise"] < 0.7 * asked["size"]
    assert asked["one centroid"] < asked["size"]


# -- tracks ---------------------------------------------------------------------------------------


def test_a_silo_that_has_just_joined_is_asked() -> None:
    one = trial()
    known, joined = changes.unseen(one, atlas_of(one.scene, inf))
    assert known.kept > 0.7
    assert joined.kept > known.kept - 0.15


def test_silent_silos_cost_less_once_it_is_known() -> None:
    one = trial()
    blind, aware = changes.offline(one, atlas_of(one.scene, inf))
    assert aware.kept >= blind.kept


def test_removed_and_stale_profiles_are_measured() -> None:
    one = trial()
    profiles = one.scene.profiles(inf)
    for found in (*changes.removed(one, profiles), *changes.stale(one)):
        assert 0.3 < found.kept <= 1


def test_a_promise_is_measured_on_questions_that_did_not_make_it() -> None:
    scene = small_scene(460)
    found = promises.promises(scene, atlas_of(scene, inf), 0)
    assert {item.promise for item in found} == set(promises.PROMISES)
    for item in found:
        assert item.kept > item.promise - 0.03
        assert item.silos >= 0.95 * item.best


def test_a_promise_that_its_silos_break_is_noticed() -> None:
    scene = small_scene(1000)
    quiet, loud = promises.drifts(scene, atlas_of(scene, inf), 0, 0.95)
    assert quiet.false_alarms == loud.false_alarms == 0
    assert 0 < loud.delay < 60
    assert loud.broken < 0.9 < loud.kept
    assert promises.drifts(small_scene(), atlas_of(small_scene(), inf), 0, 0.95) == []


def test_liars_rank_first_without_trust_and_not_with_it() -> None:
    scene = small_scene()
    found = {item.router: item for item in attacked.forged(scene, scene.profiles(inf), 2, 20, 0)}
    assert found["one centroid"].top3 > 0.5
    assert found["ours without trust"].top3 > 0.5
    assert found["ours, liars with true scores"].first <= 0.1
    assert found["ours, liars with high scores"].first <= 0.2
    assert found["ours, liars with true scores"].kept > found["ours"].kept - 0.05


def test_inflated_scores_win_the_quota_once() -> None:
    scene = small_scene()
    found = attacked.inflated(scene, scene.profiles(inf), np.arange(20))
    # With few silos asked, each may win a little more than the quota, or places stay empty.
    assert found.won[0] <= found.quota + 2 < K
    assert sum(found.won[3:]) == 0


# -- the whole ------------------------------------------------------------------------------------


def test_every_figure_is_written_and_can_be_computed_from_the_rows(tmp_path: Path) -> None:
    scene = small_scene()
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    config = RoutingConfig(corpus, out, ("normal", "cost"), seeds=1)
    quick = {name: ROUTERS[name] for name in ("all", "size", "ours, no noise", "oracle")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("siloquy.eval.routing.comparison.ROUTERS", quick)
        results = measure(config, scene, lambda said: None)
    assert json.loads((out / "results.json").read_text()) == results
    assert {path.name for path in out.iterdir()} >= {"manifest.json", "kept.png", "kept.svg"}
    rows = [json.loads(line) for line in (out / "per_query.jsonl").read_text().splitlines()]
    mine = [row for row in rows if row["router"] == "ours, no noise"]
    scores, held = (np.array([row[key] for row in mine], float) for key in ("scores", "held"))
    asked = measures.silos_for(scores, held, 0.95)
    assert asked == pytest.approx(results["normal"]["ours, no noise"]["silos for 0.95"], abs=0.02)
    written = [json.loads(line) for line in (out / "offers.jsonl").read_text().splitlines()]
    offers = {row["question"]: row for row in written}
    some = measures.chosen(scores, 0.33 * SILOS)
    found = [
        _recall(offers[row["question"]], set(np.flatnonzero(some[i]))) for i, row in enumerate(mine)
    ]
    everybody = [_recall(offers[row["question"]], set(range(SILOS))) for row in mine]
    assert np.mean(found) / np.mean(everybody) == pytest.approx(
        results["normal"]["ours, no noise"]["recall at 0.33"], abs=2e-4
    )
    assert results["bytes"]["saved"] > 0.5
    assert results["profile_bytes"] <= 32 * 1024


def _recall(offered: dict[str, Any], asked: set[int]) -> float:
    """Recall@10 of documents, from a row of ``offers.jsonl`` (no words in it)."""
    rows = [i for i, silo in enumerate(offered["silos"]) if silo in asked]
    rows.sort(key=lambda i: -offered["dense"][i])
    best = list(dict.fromkeys(offered["documents"][i] for i in rows))[:K]
    return len(set(best) & set(offered["relevant"])) / len(offered["relevant"])


def test_every_case_of_a_track_can_be_computed_from_its_rows() -> None:
    scene, one = small_scene(460), trial()
    note = Notes(scene.asked.ids)
    promised = promises.promises(scene, atlas_of(scene, inf), 0, note)
    offline = changes.offline(one, atlas_of(one.scene, inf), note)
    hijacks = attacked.forged(one.scene, one.scene.profiles(inf), 1, 20, 0, note)
    rows = json.loads(json.dumps(note.rows))

    def mean(part: str, **wanted: object) -> float:
        cases = [row for row in rows if all(row.get(key) == wanted[key] for key in wanted)]
        assert all(len(row[part]) == len(row["questions"]) for row in cases)
        return float(np.mean([np.mean(row[part]) for row in cases]))

    for item in promised:
        case = {"promise": item.promise, "audits": item.audits, "learned": item.learned}
        assert mean("kept", track="promises", **case) == pytest.approx(item.kept, abs=1e-5)
        assert mean("silos", track="promises", **case) == pytest.approx(item.silos, abs=1e-5)
    for kept in offline:
        assert mean("kept", track="silos", name=kept.name) == pytest.approx(kept.kept, abs=1e-5)
    for hijack in hijacks:
        for part in ("first", "top3", "kept"):
            told = mean(part, track="attacks", router=hijack.router)
            assert told == pytest.approx(getattr(hijack, part), abs=1e-5)


def test_an_out_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(UsageError, match="not empty"):
        run(RoutingConfig(tmp_path, tmp_path), lambda said: None)
    with pytest.raises(UsageError, match="not empty"):
        run_labels("ragroute", tmp_path, tmp_path, lambda said: None)


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is missing"):
        run_labels("feb4rag", tmp_path, tmp_path / "out", lambda said: None)


def test_an_unknown_track_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["bench", "routing", "--corpus", str(tmp_path), "--out", "x", "--track", "no"]
    )
    assert done.exit_code == UsageError.exit_code


@pytest.mark.needs_data
def test_a_scene_is_built_of_a_real_corpus(tmp_path: Path) -> None:
    data = os.environ.get("SILOQUY_DATA")
    if not data or not (Path(data) / "clinic_notes").exists():
        pytest.skip("SILOQUY_DATA names no folder with clinic_notes")
    scene = build(
        Path(data) / "clinic_notes", tmp_path, tmp_path / "cache", lambda said: None, limit=20
    )
    assert scene.held.sum(axis=1).tolist() == [K] * scene.judged


def test_the_scene_of_the_tests_is_as_it_says() -> None:
    scene = small_scene()
    assert scene.sizes.tolist() == [PASSAGES] * SILOS
    assert (scene.held.sum(axis=1) == K).all()
