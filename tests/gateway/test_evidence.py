"""From released passages to what may be read: no repeats, no monotony, no false claims."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.aggregator.merge import merge
from siloquy.gateway.evidence import (
    CLAIM_TOLERANCE,
    DUPLICATE_OVERLAP,
    Evidence,
    check_claims,
    distinct,
    overlap,
    overrated,
    select,
    unscored,
)
from siloquy.gateway.reranking import rerank
from siloquy.text.ranking import most_bm25
from siloquy.types import (
    DocumentId,
    DocumentTag,
    Handle,
    Hit,
    NodeId,
    Passage,
    PassageId,
    QueryId,
    SearchReply,
    Term,
    Vector,
)
from tests.silo_node.hospital import WordEmbedder, document, fill, open_store

EMBEDDER = WordEmbedder()
RULE = "Give intravenous antibiotics within one hour of recognising sepsis in adults."
STROKE = "Image the head of every patient with suspected stroke within one hour."
ASTHMA = "Give oxygen and nebulised salbutamol to children with severe asthma at once."


def passage(
    text: str,
    silo: str = "north",
    dense: float | None = None,
    name: str = "",
    lexical: float = 0.0,
    title: str = "Title",
) -> Passage:
    """A released passage; its claim fits the question ``RULE`` unless given."""
    if dense is None:
        dense = float(EMBEDDER.encode([text])[0] @ question())
    document = DocumentId(name or text[:8])
    handle = Handle(text.encode()[:16].ljust(16))
    return Passage(
        handle, NodeId(silo), PassageId("p"), document, title, text, 3, 9, dense, lexical
    )


def question() -> Vector:
    return np.asarray(EMBEDDER.encode([RULE])[0])


def chosen(
    passages: Sequence[Passage], most: int = 10, terms: Sequence[Sequence[Term]] = ()
) -> Evidence:
    return select(
        passages,
        EMBEDDER.encode([p.text for p in passages]),
        question()[None],
        [0] * len(passages),
        most,
        terms,
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
    standing = replace(passage(RULE, "south", name="rule.md"), section="Dose", dated="2024-03")
    (source,) = chosen([standing]).sources
    assert (source.silo, source.document, source.title) == ("south", "rule.md", "Title")
    assert (source.section, source.dated) == ("Dose", "2024-03")
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
    flagged = check_claims(passages, np.ones(3, dtype=np.float32)).flagged
    assert flagged == {"north": "claimed a similarity 0.50 away from its passage's"}


@pytest.mark.parametrize(("gap", "flagged"), [(0.0, False), (0.019, False), (0.021, True)])
def test_claims_within_the_tolerance_pass(gap: float, flagged: bool) -> None:
    assert CLAIM_TOLERANCE == 0.02
    passages = [passage(RULE, dense=0.5 + gap)]
    checked = check_claims(passages, np.array([0.5], dtype=np.float32))
    assert bool(checked.flagged) == flagged
    assert (checked.verified, checked.false) == (
        ({}, {"north": 1}) if flagged else ({"north": 1}, {})
    )


def test_a_duplicate_that_is_dropped_is_checked_all_the_same() -> None:
    evidence = chosen([passage(RULE, "north"), passage(RULE, "south", dense=0.2)])
    assert (len(evidence.sources), list(evidence.flagged)) == (1, ["south"])


# -- claims of matching words ---------------------------------------------------------------------

TERMS = (Term("sepsis", 4.0), Term("antibiotics", 2.0), Term("zebra", 5.0))
WORDS = "claimed matching words that its passage does not hold"


def worded(*passages: Passage) -> Evidence:
    """Evidence whose passages were searched by ``TERMS``."""
    return chosen(passages, terms=[TERMS])


@pytest.mark.parametrize(
    ("lexical", "fits"), [(0.0, True), (13.2, True), (13.3, True), (13.4, False), (24.0, False)]
)
def test_a_claim_of_words_is_held_to_what_the_passage_holds(lexical: float, fits: bool) -> None:
    assert most_bm25(TERMS[:2]) == pytest.approx(13.2)
    evidence = worded(passage(RULE, lexical=lexical))
    assert evidence.flagged == ({} if fits else {"north": WORDS})
    assert (evidence.verified, evidence.false) == (
        ({"north": 1}, {}) if fits else ({}, {"north": 1})
    )


@pytest.mark.parametrize(("lexical", "fits"), [(0.0, True), (0.01, True), (0.02, False)])
def test_a_passage_without_a_word_of_the_question_cannot_claim_any(
    lexical: float, fits: bool
) -> None:
    assert bool(worded(passage(STROKE, lexical=lexical)).flagged) != fits


def test_words_of_the_title_count() -> None:
    assert worded(passage(STROKE, lexical=8.0, title="Sepsis")).flagged == {}
    assert worded(passage(STROKE, lexical=8.0)).flagged == {"north": WORDS}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("used", "By using it"),
        ("café", "A cafe"),
        ("ties", "It is tied"),
        ("ages", "Aging"),
        ("x_y", "x Y"),
    ],
)
def test_inflected_words_match_as_they_do_in_a_silo(word: str, text: str) -> None:
    evidence = chosen([passage(text, lexical=1.0)], terms=[[Term(word, 1.0)]])
    assert evidence.flagged == {}


def test_a_word_that_only_begins_alike_is_another() -> None:
    evidence = chosen([passage("An antidote", lexical=1.0)], terms=[[Term("antibiotics", 1.0)]])
    assert evidence.flagged == {"north": WORDS}


def test_each_passage_is_held_to_the_words_of_its_own_query() -> None:
    queries = np.stack([question(), question()])
    for of_query, fits in (([0], False), ([1], True)):
        evidence = select(
            [passage(RULE, lexical=8.0)],
            EMBEDDER.encode([RULE]),
            queries,
            of_query,
            5,
            [[Term("zebra", 9.0)], TERMS],
        )
        assert bool(evidence.flagged) != fits


def test_without_terms_no_claim_of_words_is_checked() -> None:
    evidence = chosen([passage(RULE, lexical=1e6)])
    assert (evidence.flagged, evidence.verified) == ({}, {"north": 1})


def test_without_words_in_the_question_no_passage_may_claim_any() -> None:
    assert chosen([passage(RULE, lexical=0.0)], terms=[[]]).flagged == {}
    assert chosen([passage(RULE, lexical=1.0)], terms=[[]]).flagged == {"north": WORDS}


def test_a_silo_that_claims_both_falsely_is_told_both() -> None:
    told = worded(passage(RULE, dense=0.5, lexical=99.0)).flagged["north"]
    assert told == f"claimed a similarity 0.50 away from its passage's; {WORDS}"


def test_claims_that_fit_and_do_not_are_counted_by_silo() -> None:
    evidence = worded(
        passage(RULE, "north", lexical=6.0),
        passage(STROKE, "north", lexical=6.0),
        passage(ASTHMA, "north", dense=0.9, lexical=6.0),
        passage(RULE, "south"),
        passage(RULE, "east", dense=0.5),
    )
    assert evidence.verified == {"north": 1, "south": 1}
    assert evidence.false == {"north": 2, "east": 1}
    assert set(evidence.flagged) == {"north", "east"}


vocabulary = (
    "use used uses using dose doses dosing tie ties tied café cafe age aging die dying 2 x_y"
)
some_words = st.lists(st.sampled_from(vocabulary.split()), min_size=1, max_size=30).map(" ".join)
some_terms = st.lists(
    st.builds(Term, st.sampled_from(vocabulary.split()), st.floats(0, 12, width=32)),
    max_size=6,
    unique_by=lambda term: term.word,
)


@given(st.lists(st.tuples(some_words, some_words), min_size=1, max_size=5), some_terms)
def test_an_honest_silo_is_never_called_a_liar(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]], terms: list[Term]
) -> None:
    with closing(open_store(tmp_path_factory.mktemp("store") / "db")) as store:
        fill(store, [document(str(n), text, title) for n, (title, text) in enumerate(texts)])
        numbers, scores = store.lexical(terms)
        stored = [store.passage(int(number)) for number in numbers]
    passages = [
        passage(item.text, dense=0.5, lexical=score, title=item.title)
        for item, score in zip(stored, scores.tolist(), strict=True)
        if item is not None
    ]
    own = np.full(len(passages), 0.5, dtype=np.float32)
    claims = check_claims(passages, own, [terms] * len(passages))
    assert (claims.flagged, claims.false) == ({}, {})
    assert claims.verified == ({"north": len(passages)} if passages else {})


# -- passages of sealed questions -----------------------------------------------------------------


def sealed(text: str, silo: str = "north", title: str = "Title") -> Passage:
    """A released passage that claims nothing."""
    return replace(passage(text, silo, title=title), dense=None, lexical=None)


def ranked(*scores: tuple[str, float]) -> tuple[list[Passage], Vector]:
    """Passages of these silos in the order in which they won, with their true cosines."""
    passages = [sealed(f"{RULE} {n}", silo) for n, (silo, _) in enumerate(scores)]
    return passages, np.array([score for _, score in scores], dtype=np.float32)


def test_a_sealed_passage_that_won_in_its_place_fits() -> None:
    claims = check_claims(*ranked(("north", 0.9), ("south", 0.7), ("north", 0.7), ("east", 0.1)))
    assert (claims.flagged, claims.false) == ({}, {})
    assert claims.verified == {"north": 2, "south": 1, "east": 1}


def test_a_rank_may_be_off_by_the_tolerance() -> None:
    fits = check_claims(*ranked(("north", 0.7), ("south", 0.7 + 0.9 * CLAIM_TOLERANCE)))
    assert fits.flagged == {}
    over = 0.7 + 1.2 * CLAIM_TOLERANCE
    off = check_claims(*ranked(("north", 0.7), ("south", over), ("south", over)))
    assert list(off.flagged) == ["north"]


def test_the_silo_that_stands_above_what_fits_better_is_blamed_alone() -> None:
    claims = check_claims(
        *ranked(("south", 0.2), ("north", 0.9), ("east", 0.8), ("north", 0.7), ("west", 0.6))
    )
    assert claims.flagged == {"south": "claimed a similarity 0.70 away from its passage's"}
    assert claims.false == {"south": 1}
    assert claims.verified == {"north": 2, "east": 1, "west": 1}


def test_a_passage_that_was_ranked_too_low_makes_no_liar_of_those_above() -> None:
    claims = check_claims(
        *ranked(("north", 0.9), ("east", 0.8), ("west", 0.7), ("north", 0.6), ("south", 0.85))
    )
    assert claims.flagged == {}


def test_ranks_of_two_questions_say_nothing_of_each_other() -> None:
    passages, scores = ranked(
        ("north", 0.9),
        ("north", 0.5),
        ("north", 0.3),
        ("south", 0.95),
        ("south", 0.6),
        ("south", 0.5),
        ("south", 0.4),
    )
    of_query = [0, 0, 0, 1, 1, 1, 1]
    claims = check_claims(passages, scores, of_query=of_query)
    assert (claims.flagged, claims.verified) == ({}, {"north": 3, "south": 4})
    assert check_claims(passages, scores).flagged != {}


def test_select_judges_ranks_by_question_too() -> None:
    own = [(0.9, 0), (0.5, 0), (0.3, 0), (0.95, 1), (0.6, 1), (0.5, 1), (0.4, 1)]
    passages = [sealed(f"{RULE} {n}") for n in range(len(own))]
    vectors = np.zeros((len(own), 3), dtype=np.float32)
    for row, (score, query) in zip(vectors, own, strict=True):
        row[query], row[2] = score, np.sqrt(1 - score**2)
    queries = np.eye(2, 3, dtype=np.float32)
    found = select(passages, vectors, queries, [query for _, query in own], 9)
    assert (found.flagged, found.verified) == ({}, {"north": len(own)})


def test_open_claims_beside_sealed_ranks_are_checked_as_before() -> None:
    passages = [sealed(RULE), passage(STROKE, "south", dense=0.9), passage(ASTHMA, "east")]
    own = [float(EMBEDDER.encode([p.text])[0] @ question()) for p in passages]
    claims = check_claims(passages, np.array(own, dtype=np.float32))
    assert list(claims.flagged) == ["south"]


def test_words_cannot_be_held_against_a_passage_that_claims_none() -> None:
    assert chosen([sealed(STROKE)], terms=[TERMS]).flagged == {}


cosines = st.lists(st.floats(-1, 1), max_size=12)


@given(cosines)
def test_what_is_in_order_is_never_overrated(scores: list[float]) -> None:
    assert not any(overrated(sorted(scores, reverse=True)))


def test_a_drift_within_the_tolerance_of_each_step_blames_nobody() -> None:
    assert not any(overrated([0.5 + 0.9 * CLAIM_TOLERANCE * i for i in range(6)]))


@given(cosines, st.floats(0.1, 1))
def test_one_that_was_lifted_to_the_top_is_blamed_alone(scores: list[float], less: float) -> None:
    honest = sorted((0.5 + score / 2 for score in scores), reverse=True)
    gaps = overrated([-less, *honest])
    if len(honest) > 1:
        assert gaps[0] == pytest.approx(honest[0] + less)
    assert not any(gaps[1:])


@given(cosines)
def test_a_gap_is_how_much_better_a_later_one_is(scores: list[float]) -> None:
    gaps = overrated(scores)
    assert len(gaps) == len(scores)
    for i, gap in enumerate(gaps):
        later = max((score - scores[i] for score in scores[i + 1 :]), default=0.0)
        assert gap == 0 or CLAIM_TOLERANCE < gap <= later


# -- ranking what a sealed question released ------------------------------------------------------


def test_without_passages_there_is_no_order() -> None:
    assert rerank([], np.zeros(0, dtype=np.float32), TERMS) == []


def test_without_matching_words_the_cosine_decides_and_ties_keep_their_order() -> None:
    passages = [sealed(STROKE), sealed(ASTHMA), sealed(STROKE)]
    order = rerank(passages, np.array([0.2, 0.9, 0.2], dtype=np.float32), [Term("zebra", 9.0)])
    assert order == [1, 0, 2]


def test_matching_words_lift_a_passage() -> None:
    passages = [sealed(STROKE), sealed(RULE)]
    cosines = np.array([0.5, 0.4], dtype=np.float32)
    assert rerank(passages, cosines, [Term("sepsis", 3.0)]) == [1, 0]
    assert rerank(passages, cosines, []) == [0, 1]


one_length = st.lists(
    st.lists(st.sampled_from("dose give oxygen sepsis".split()), min_size=4, max_size=4),
    min_size=2,
    max_size=6,
)
weights = st.lists(
    st.builds(
        Term,
        st.sampled_from("dose give oxygen sepsis zebra".split()),
        st.sampled_from([0.5, 1.0, 4.0]),
    ),
    max_size=4,
    unique_by=lambda term: term.word,
)


@given(one_length, weights, st.randoms(use_true_random=False))
def test_passages_of_one_length_are_ranked_as_in_open_mode(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[list[str]],
    terms: list[Term],
    random: Random,
) -> None:
    passages = [sealed(" ".join(text), title="") for text in texts]
    scores = np.array([random.random() for _ in passages], dtype=np.float32)
    with closing(open_store(tmp_path_factory.mktemp("store") / "db")) as store:
        fill(store, [document(str(n), item.text) for n, item in enumerate(passages)])
        found = dict(zip(*(part.tolist() for part in store.lexical(terms)), strict=True))
    hits = [
        Hit(Handle(bytes([n])), DocumentTag(b""), float(score), found.get(n + 1, 0.0))
        for n, score in enumerate(scores)
    ]
    winners = merge([SearchReply(QueryId(b""), NodeId("north"), tuple(hits))], 9, "passage")
    assert rerank(passages, scores, terms) == [winner.handle[0] for winner in winners]


def test_sealed_passages_without_a_score_of_their_own_keep_their_order() -> None:
    sources = unscored([sealed(STROKE), sealed(RULE), sealed(ASTHMA)])
    assert [(source.text, source.score) for source in sources] == [
        (STROKE, 0.0),
        (RULE, 0.0),
        (ASTHMA, 0.0),
    ]
    assert [s.text for s in unscored([passage(STROKE), passage(RULE, dense=0.9)])] == [RULE, STROKE]
