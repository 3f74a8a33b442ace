"""Where a passage stands: the heading above it, its document's date, and nobody's name."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node.chunk import Span
from siloquy.silo_node.sections import PassagePlace, sections, standings
from siloquy.wire.calls import MOST_SECTION_CHARACTERS

TEXT = """Intro.

## Dose ##

Give 5 mg.

### In   children

Give 1 mg.

Follow-up
---------
Measure again.
"""


def section(text: str, words: str) -> str:
    """The section of a passage that begins with ``words`` and is ten characters long."""
    start = text.index(words)
    return sections(text, [Span(start, start + 10)])[0]


@pytest.mark.parametrize(
    ("words", "heading"),
    [
        ("Intro", ""),
        ("## Dose", "Dose"),
        ("Give 5", "Dose"),
        ("Give 1", "In children"),
        ("Measure", "Follow-up"),
    ],
)
def test_a_section_is_the_nearest_heading_at_or_above_the_start(words: str, heading: str) -> None:
    assert section(TEXT, words) == heading


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("2. FLUID AND PRESSURE", "2. FLUID AND PRESSURE"),
        ("4.2 Dose adjustment", "4.2 Dose adjustment"),
        ("1. Assess", ""),
        ("4.2 mmol/L", ""),
        ("4.2 Dose is kept.", ""),
        ("#hashtag", ""),
        ("HESTER NULLINGTON", ""),
        ("Hester Nullington", ""),
        ("| Drug | Dose |\n---", ""),
        ("author: ward 3\n---", ""),
    ],
)
def test_what_is_a_heading_in_plain_text(line: str, heading: str) -> None:
    assert section(f"Top.\n{line}\nGive 5 mg.", "Give") == heading


@pytest.mark.parametrize(
    "heading",
    [
        "Hester Nullington, HN-0000-6301",
        "Patient: Hester Nullington",
        "Name: Nullington",
        "Mrs Nullington",
        "Seen 05/05/1959",
        "born in May",
        "Tel 01632960301",
        "ward@hospital",
    ],
)
def test_a_heading_that_names_a_patient_is_not_told(heading: str) -> None:
    text = f"## Dose\n\n## {heading}\n\nGive 5 mg."
    assert section(text, "Give") == ""


@pytest.mark.parametrize("heading", ["Patient information", "MS relapse", "Changes in 2024"])
def test_a_heading_that_only_sounds_so_is_told(heading: str) -> None:
    assert section(f"## {heading}\n\nGive 5 mg.", "Give") == heading


def test_a_passage_over_several_sections_is_of_all_of_them() -> None:
    text = (
        "Valid from: 2025-01-13\n\n## Trigger\n\nThink.\n\n## Within 60 minutes\n\nGive.\n\n## Last"
    )
    end = len(text)
    spans = [Span(0, end), Span(text.index("Think"), end), Span(text.index("## W"), end)]
    assert sections(text, spans) == [
        "Trigger / Within 60 minutes",
        "Trigger / Within 60 minutes",
        "Within 60 minutes",
    ]
    assert sections(text, [Span(text.index("## L"), end), Span(0, 10)]) == ["Last", ""]


def test_only_as_many_sections_are_told_as_fit() -> None:
    text = "\n".join(f"# {'word ' * 10}{i}\nGive." for i in range(9))
    (found,) = sections(text, [Span(0, len(text))])
    assert (len(found) <= MOST_SECTION_CHARACTERS, found.count(" / ")) == (True, 2)


def test_a_long_heading_is_cut() -> None:
    assert len(section(f"# {'word ' * 60}\nGive 5 mg.", "Give")) <= MOST_SECTION_CHARACTERS


@pytest.mark.parametrize(
    ("metadata", "dated"),
    [
        ({"date": "2025-02-08"}, "2025-02-08"),
        ({"Last-Reviewed": "March 2024"}, "2024-03"),
        ({"date": "spring", "year": "2021"}, "2021"),
        ({"date": "2025-13-40"}, "2019-05"),
        ({"department": "2025-02-08"}, "2019-05"),
        ({"date": "2025-02-08", "patient": "HN-1"}, "2025"),
    ],
)
def test_a_document_is_as_old_as_its_metadata_or_its_head_says(
    metadata: dict[str, str], dated: str
) -> None:
    assert (
        standings("Last reviewed in May 2019. Give 5 mg.", metadata, [Span(0, 9)])[0].dated == dated
    )


def test_a_date_far_down_is_not_the_document_s() -> None:
    assert standings("word " * 500 + "Valid from: 2024-01-01", {}, [Span(0, 9)]) == [
        PassagePlace("", "")
    ]


def test_of_a_patient_s_document_no_section_is_told() -> None:
    text = "## Hester Nullington\n\nGive 5 mg."
    assert (
        standings(text, {"patient": "HN-1"}, [Span(0, 20), Span(22, 32)])
        == [PassagePlace("", "")] * 2
    )


@given(st.text(alphabet="# \n=-.:1aA\t", max_size=200), st.integers(0, 200))
def test_a_section_is_one_short_line_whatever_the_text(text: str, start: int) -> None:
    (found,) = sections(text, [Span(min(start, len(text)), len(text))])
    assert len(found) <= MOST_SECTION_CHARACTERS
    assert found.splitlines() in ([], [found])
    assert found == found.strip()


@pytest.mark.parametrize("piece", ["# x ", "#", " ", "\n", "A: b\n", "1.", "A", "a\n--"])
def test_odd_text_costs_no_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.perf_counter()
    sections(f"# {text}", [Span(0, len(text)), Span(len(text), len(text))])
    sections(text, [Span(0, 9)] * 1000)
    assert time.perf_counter() - start < 3
