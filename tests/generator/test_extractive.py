"""The reasoner without a model: it quotes its sources word for word, or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.extractive import Extractive
from siloquy.ports import Generator
from siloquy.text.batcher import Batcher
from siloquy.text.words import sentence_spans
from siloquy.types import DocumentId, Draft, NodeId, Sentence, Source, Vector
from tests.silo_node.hospital import WordEmbedder

FLOOR = 0.4
QUESTION = "Which dose of ceftriaxone is given to adults with bacterial meningitis?"
ANSWER = "Adults with bacterial meningitis are given a ceftriaxone dose of 2 g every 12 hours."
OTHERS = (
    "Visiting hours end at eight in the evening on all wards.",
    "The pharmacy delivers to the wards twice a day on weekdays.",
    "Parking is free for relatives of patients in intensive care.",
)


def source(n: int, text: str, silo: str = "north", score: float = 0.9, title: str = "") -> Source:
    return Source(n, NodeId(silo), DocumentId(f"{n}.md"), title, text, 0, len(text), score)


def answer(sources: Sequence[Source], question: str = QUESTION, floor: float = FLOOR) -> Draft:
    told: list[Sentence] = []
    reasoner = Extractive(Batcher(WordEmbedder()), floor)
    draft = asyncio.run(reasoner.answer([question], sources, told.append))
    assert tuple(told) == draft.sentences
    return draft


def quoted(draft: Draft) -> list[str]:
    return [sentence.text for sentence in draft.sentences]


# -- answering ------------------------------------------------------------------------------------


def test_the_sentence_that_answers_is_quoted_with_its_source() -> None:
    sources = [source(1, " ".join(OTHERS)), source(2, f"{OTHERS[0]} {ANSWER} {OTHERS[1]}")]
    draft = answer(sources)
    assert (draft.abstained, draft.reason) == (False, "")
    assert quoted(draft)[0] == ANSWER
    assert draft.sentences[0].citations == (2,)
    assert draft.sentences[0].support == 1.0


def test_it_says_by_its_name_that_it_writes_nothing() -> None:
    reasoner: Generator = Extractive(Batcher(WordEmbedder()), FLOOR)
    assert "extractive" in reasoner.model
    assert "writes nothing" in reasoner.model


def test_the_same_question_gets_the_same_answer() -> None:
    sources = [source(1, f"{ANSWER} {OTHERS[0]}"), source(2, " ".join(OTHERS), "south")]
    assert answer(sources) == answer(sources)


def test_the_same_sentence_of_two_sources_is_quoted_once() -> None:
    draft = answer([source(1, ANSWER), source(2, ANSWER, "south")])
    assert quoted(draft) == [ANSWER]


@pytest.mark.parametrize(
    "other",
    [
        ANSWER.replace("2 g every 12", "4 g every 24"),
        ANSWER.replace("are given", "are not given"),
    ],
)
def test_hospitals_that_contradict_each_other_are_both_quoted(other: str) -> None:
    draft = answer([source(1, ANSWER, "north"), source(2, other, "south")])
    assert sorted(quoted(draft)) == sorted([ANSWER, other])


def test_questions_and_headings_are_not_quoted_as_answers() -> None:
    heading = "# Ceftriaxone dose in adults with bacterial meningitis"
    text = f"{heading}\n\nWhich dose of ceftriaxone is given to adults? {ANSWER}"
    assert quoted(answer([source(1, text)])) == [ANSWER]


SENTENCES = [
    ANSWER,
    *OTHERS,
    "Give dexamethasone to adults with bacterial meningitis before the first ceftriaxone dose.",
    "Children with meningitis are given ceftriaxone 80 mg/kg once a day.",
    "No.",
    "Is the dose of ceftriaxone given to adults the same for all?",
    "  Ärzte 🩺 geben Ceftriaxon bei Meningitis.\n",
]
passages = st.lists(
    st.tuples(
        st.lists(st.sampled_from(SENTENCES), max_size=5),
        st.sampled_from(["north", "south", "east"]),
        st.floats(0, 1),
    ),
    max_size=6,
).map(
    lambda rows: [
        source(n, " ".join(texts), silo, score)
        for n, (texts, silo, score) in enumerate(rows, start=1)
    ]
)
questions = st.sampled_from(
    [QUESTION, "When do visiting hours end?", "Is parking free?", "zebra crossing", "is it?", "2"]
)


@given(passages, questions)
def test_every_sentence_is_a_whole_sentence_of_the_source_that_it_cites(
    sources: list[Source], question: str
) -> None:
    texts = {item.n: item.text for item in sources}
    for sentence in answer(sources, question).sentences:
        assert sentence.citations
        for n in sentence.citations:
            spans = sentence_spans(texts[n])
            assert sentence.text in [texts[n][start:end] for start, end in spans]


@given(passages, questions)
def test_an_answer_is_short_and_repeats_nothing(sources: list[Source], question: str) -> None:
    texts = quoted(answer(sources, question))
    assert len(texts) == len(set(texts)) <= 4


@given(passages, questions)
def test_it_answers_or_says_why_not(sources: list[Source], question: str) -> None:
    draft = answer(sources, question)
    assert draft.abstained == (not draft.sentences)
    assert bool(draft.reason) == draft.abstained
    assert all(0 < sentence.support <= 1 for sentence in draft.sentences)


# -- abstaining -----------------------------------------------------------------------------------


def test_without_sources_it_abstains() -> None:
    assert answer([]).abstained


@pytest.mark.parametrize("text", ["", " ", "No.", "?", "Which dose of ceftriaxone for adults?"])
def test_sources_without_a_sentence_that_says_something_give_no_answer(text: str) -> None:
    assert answer([source(1, text)]).abstained


def test_sources_far_from_the_question_give_no_answer() -> None:
    draft = answer([source(1, ANSWER, score=FLOOR - 0.01)])
    assert (draft.abstained, draft.sentences) == (True, ())
    assert "close enough" in draft.reason


def test_a_floor_of_the_settings_is_kept() -> None:
    sources = [source(1, ANSWER, score=0.8)]
    assert not answer(sources, floor=0.7).abstained
    assert answer(sources, floor=0.9).abstained


def test_sources_that_name_nothing_of_the_question_give_no_answer() -> None:
    draft = answer([source(n, text, score=0.5) for n, text in enumerate(OTHERS, start=1)])
    assert draft.abstained
    assert draft.reason


def test_the_reason_quotes_neither_question_nor_sources() -> None:
    draft = answer([source(1, OTHERS[0], score=0.5)])
    assert "ceftriaxone" not in draft.reason
    assert "Visiting" not in draft.reason


def test_an_answer_encodes_few_sentences_however_long_the_sources() -> None:
    embedder = WordEmbedder()
    text = " ".join(f"Ceftriaxone dose number {i} is given to adults." for i in range(300))
    reasoner = Extractive(Batcher(embedder), FLOOR)
    asyncio.run(reasoner.answer([QUESTION], [source(1, text)], lambda sentence: None))
    assert sum(map(len, embedder.calls)) <= 50


def test_a_busy_encoder_leaves_shared_words_to_choose_and_it_is_said() -> None:
    class Stuck:
        async def encode(self, texts: Sequence[str]) -> Vector:
            await asyncio.Event().wait()
            raise AssertionError

    told: list[Sentence] = []
    sources = [source(1, " ".join(OTHERS)), source(2, f"{OTHERS[0]} {ANSWER} {OTHERS[1]}")]
    reasoner = Extractive(Stuck(), FLOOR, patience_s=0.01)
    draft = asyncio.run(reasoner.answer([QUESTION], sources, told.append))
    assert quoted(draft)[0] == ANSWER
    assert "shared words alone" in draft.notes[0]


def test_a_link_that_comes_together_when_marks_are_taken_out_is_not_shown() -> None:
    hostile = ANSWER.replace("2 g", "2 g, see https:[1]//evil.dev/x and <[2]img src=x>,")
    draft = answer([source(1, hostile), source(2, f"{ANSWER} {OTHERS[0]}")])
    assert quoted(draft)[0] == ANSWER
    assert not any("evil" in text or "<" in text for text in quoted(draft))
