"""From released passages to what may be read: no repeats, no monotony, no false claims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.aggregator.evidence import (
    CLAIM_TOLERANCE,
    DUPLICATE_OVERLAP,
    Evidence,
    check_claims,
    distinct,
    overlap,
    select,
)
from siloquy.types import DocumentId, Handle, NodeId, Passage, PassageId, Vector
from tests.silo_node.hospital import WordEmbedder

EMBEDDER = WordEmbedder()
RULE = "Give intravenous antibiotics within one hour of recognising sepsis in adults."
STROKE = "Image the head of every patient with suspected stroke within one hour."
ASTHMA = "Give oxygen and nebulised salbutamol to children with severe asthma at once."


def passage(text: str, silo: str = "north", dense: float | None = None, name: str = "") -> Passage:
    """A released passage; its claim fits the question ``RULE`` unless given."""
    if dense is None:
        dense = float(EMBEDDER.encode([text])[0] @ question())
    document = DocumentId(name or text[:8])
    handle = Handle(text.encode()[:16].ljust(16))
    return Passage(
        handle, NodeId(silo), PassageId("p"), document, "Title", text, 3, 9, dense, lexical=0.0
    )


def question() -> Vector:
    return np.asarray(EMBEDDER.encode([RULE])[0])


def chosen(passages: Sequence[Passage], most: int = 10) -> Evidence:
    return select(
        passages,
        EMBEDDER.encode([p.text for p in passages]),
        question()[None],
        [0] * len(passages),
        most,
    )


def texts(evidence: Evidence) -> list[str]:
    return [source.text for source in evidence.sources]


@pytest.mark.parametrize(
    ("one", "other"), [("2.5 mg", "25 mg"), ("is given", "is not given"), ("24 hours", "72 hours")]
)
def test_a_near_copy_that_differs_in_a_value_or_a_denial_is_kept(one: str, other: str) -> None:
    text = (
        "After a procedure with high bleeding risk apixaban 2.5 mg is given again after 24 hours "
        "when the wound is dry and the surgeon has agreed in writing on the ward chart."
    )
    evidence = chosen([passage(text), passage(text.replace(one, other), "south")])
    assert len(evidence.sources) == 2
    assert len(chosen([passage(text), passage(text, "south")]).sources) == 1


# -- sources --------------------------------------------------------------------------------------


def test_no_passages_give_no_evidence() -> None:
    assert select([], EMBEDDER.encode([]), question()[None], [], 5) == Evidence((), {})


def test_sources_are_numbered_from_one_most_relevant_first() -> None:
    evidence = chosen([passage(ASTHMA), passage(RULE, "south"), passage(STROKE)])
    assert [source.n for source in evidence.sources] == [1, 2, 3]
    assert texts(evidence)[0] == RULE
    assert evidence.flagged == {}


def test_a_source_keeps_what_its_passage_says_and_the_gateways_own_score() -> None:
    (source,) = chosen([passage(RULE, "south", name="rule.md")]).sources
    assert (source.silo, source.document, source.title) == ("south", "rule.md", "Title")
    assert (source.text, source.start, source.end) == (RULE, 3, 9)
    assert source.score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 9])
def test_no_more_sources_than_wanted(most: int) -> None:
    evidence = chosen([passage(RULE), passage(STROKE), passage(ASTHMA)], most)
    assert len(evidence.sources) == min(most, 3)


def test_what_repeats_the_first_comes_after_what_is_new() -> None:
    # Half of the words of the rule, so no duplicate, but near; against another topic as relevant.
    query = np.array([1, 0, 0], dtype=np.float32)
    vectors = np.array([[0.9, 0.436, 0], [0.8, 0.6, 0], [0.8, 0, 0.6]], dtype=np.float32)
    passages = [passage(text, dense=0.8) for text in (RULE, STROKE, ASTHMA)]
    assert texts(select(passages, vectors, query[None], [0, 0, 0], 3)) == [RULE, ASTHMA, STROKE]


# -- duplicates -----------------------------------------------------------------------------------


def test_a_repeated_passage_counts_once_by_its_best_score() -> None:
    copy = RULE.replace("Give", "give")
    evidence = chosen([passage(copy, "south"), passage(RULE, "north"), passage(STROKE)])
    assert len(evidence.sources) == 2
    assert texts(evidence)[1] == STROKE


def test_a_passage_that_lies_within_another_is_a_repeat() -> None:
    long = f"{RULE} {STROKE} {ASTHMA}"
    assert distinct([long, STROKE], np.array([0.9, 0.5], dtype=np.float32)) == [0]


def test_passages_that_share_a_phrase_are_both_kept() -> None:
    scores = np.array([0.5, 0.9], dtype=np.float32)
    assert distinct([RULE, f"{RULE[:40]} {STROKE}"], scores) == [1, 0]


def test_short_passages_can_repeat_each_other_too() -> None:
    scores = np.array([0.5, 0.9], dtype=np.float32)
    assert distinct(["Avoid metformin.", "Avoid metformin."], scores) == [1]


letters = st.lists(st.sampled_from("abcdefg"), min_size=5, max_size=12).map(" ".join)


@given(st.lists(st.tuples(letters, st.floats(0, 1, width=32)), max_size=8))
def test_what_is_kept_is_best_first_and_repeats_nothing_kept(
    rows: list[tuple[str, float]],
) -> None:
    words = [text.split() for text, _ in rows]
    sets = [frozenset(zip(*(w[i:] for i in range(5)), strict=False)) for w in words]
    scores = np.array([score for _, score in rows], dtype=np.float32)
    kept = distinct([text for text, _ in rows], scores)
    assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    assert all(overlap(sets[i], sets[j]) < DUPLICATE_OVERLAP for i in kept for j in kept if i != j)
    dropped = set(range(len(rows))) - set(kept)
    assert all(any(overlap(sets[i], sets[j]) >= DUPLICATE_OVERLAP for j in kept) for i in dropped)


grams = st.frozensets(st.tuples(st.sampled_from("abcd")), max_size=4)


@given(grams, grams)
def test_overlap_is_a_share_and_the_same_both_ways(
    a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]
) -> None:
    assert overlap(a, b) == overlap(b, a)
    assert 0 <= overlap(a, b) <= 1
    assert overlap(a, a) == (1.0 if a else 0.0)


# -- claims ---------------------------------------------------------------------------------------


def test_a_silo_that_claims_more_than_its_passage_holds_is_flagged() -> None:
    evidence = chosen([passage(STROKE, "south", dense=0.99), passage(RULE, "north")])
    assert list(evidence.flagged) == ["south"]
    assert "claimed a similarity" in evidence.flagged["south"]


def test_a_claim_too_low_is_flagged_too() -> None:
    assert list(chosen([passage(RULE, dense=0.5)]).flagged) == ["north"]


def test_the_worst_claim_of_a_silo_is_told() -> None:
    passages = [passage(RULE, dense=gap) for gap in (0.9, 0.5, 0.97)]
    flagged = check_claims(passages, np.ones(3, dtype=np.float32))
    assert flagged == {"north": "claimed a similarity 0.50 away from its passage's"}


@pytest.mark.parametrize(("gap", "flagged"), [(0.0, False), (0.019, False), (0.021, True)])
def test_claims_within_the_tolerance_pass(gap: float, flagged: bool) -> None:
    assert CLAIM_TOLERANCE == 0.02
    passages = [passage(RULE, dense=0.5 + gap)]
    assert bool(check_claims(passages, np.array([0.5], dtype=np.float32))) == flagged


def test_a_duplicate_that_is_dropped_is_checked_all_the_same() -> None:
    evidence = chosen([passage(RULE, "north"), passage(RULE, "south", dense=0.2)])
    assert (len(evidence.sources), list(evidence.flagged)) == (1, ["south"])
