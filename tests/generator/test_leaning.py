from __future__ import annotations

import pytest

from siloquy.generator.understanding.leaning import leaning


@pytest.mark.parametrize(
    ("clause", "word"),
    [
        ("How fast may it be infused?", "it"),
        ("Which interactions does it have?", "it"),
        ("Can it be combined with simvastatin?", "it"),
        ("What causes this condition?", "this condition"),
        ("How do they treat that?", "that"),
        ("Is the drug safe in pregnancy?", "the drug"),
        ("Which of them is safer?", "them"),
        ("How do you diagnose one?", "one"),
        ("Does the second one affect the heart?", "the second one"),
    ],
)
def test_a_word_that_stands_for_something_earlier_is_found(clause: str, word: str) -> None:
    found = leaning(clause)
    assert found is not None
    assert found.group() == word


@pytest.mark.parametrize(
    "clause",
    [
        "Is it safe to give ceftriaxone with calcium?",
        "How long does it take to recover?",
        "How is sepsis recognised and who treats it?",
        "Which drugs that prolong the QT interval are given?",
        "What is the target of the drug remdesivir?",
        "Which of these is seen in Asherman syndrome?",
        "How does one measure ketones?",
        "Do patients with gout lose their appetite?",
        "What is the treatment of croup?",
    ],
)
def test_a_clause_that_names_its_matter_leans_on_nothing(clause: str) -> None:
    assert leaning(clause) is None
