"""Where a passage stands: the heading above it, its document's date, and nobody's name."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node.standing import (
    MOST_SECTION_CHARACTERS,
    Standing,
    sections,
    standings,
)

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
    """The section of what begins with ``words``."""
    return sections(text, [text.index(words)])[0]


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


def test_a_letterhead_belongs_to_the_section_below_it() -> None:
    text = "Valid from: 2025-01-13\nOwner: Sepsis group, Harbour\n\n## Trigger\n\nThink."
    assert section(text, "Valid") == "Trigger"
    assert section(f"Think.\n{text}", "Valid") == ""


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
    assert standings("Last reviewed in May 2019. Give 5 mg.", metadata, [0])[0].dated == dated


def test_a_date_far_down_is_not_the_document_s() -> None:
    assert standings("word " * 500 + "Valid from: 2024-01-01", {}, [0]) == [Standing("", "")]


def test_of_a_patient_s_document_no_section_is_told() -> None:
    text = "## Hester Nullington\n\nGive 5 mg."
    assert standings(text, {"patient": "HN-1"}, [0, 22]) == [Standing("", "")] * 2


@given(st.text(alphabet="# \n=-.:1aA\t", max_size=200), st.integers(0, 200))
def test_a_section_is_one_short_line_whatever_the_text(text: str, start: int) -> None:
    (found,) = sections(text, [min(start, len(text))])
    assert len(found) <= MOST_SECTION_CHARACTERS
    assert found.splitlines() in ([], [found])
    assert found == found.strip()


@pytest.mark.parametrize("piece", ["# x ", "#", " ", "\n", "A: b\n", "1.", "A", "a\n--"])
def test_odd_text_costs_no_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.perf_counter()
    sections(f"# {text}", [0, len(text)])
    sections(text, [0, len(text)])
    assert time.perf_counter() - start < 3
