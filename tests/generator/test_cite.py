"""Whether a source carries a sentence: quotations and paraphrases do, changed facts never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.generator.checking.cite import PassageSupport, SourceSupport, check, check_all
from siloquy.text.words import sentence_spans
from siloquy.types import CitedSpan, DocumentId, NodeId, Source

SOURCE = (
    "Adults with meningitis: give ceftriaxone 2 g every 12 hours.\n"
    "Do not delay for imaging. Above 50 kg give 1,000 mg paracetamol, 2.5 ml of the syrup."
)
CHILD = (
    "Amoxicillin is the first choice. The dose is 250 mg three times daily from 1 to 4 years, and "
    "500 mg three times daily from 5 to 17 years. Children who vomit receive co-amoxiclav 30 mg/kg "
    "intravenously every 8 hours. Warfarin is halved when amiodarone is started. The dose of "
    "digoxin is halved on the first day. Pain in the left arm is typical."
)


def source(n: int, text: str, title: str = "") -> Source:
    return Source(n, NodeId(f"silo-{n}"), DocumentId(f"d{n}"), title, text, 0, len(text), 1.0)


# -- quotations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "span"),
    [
        ("Do not delay for imaging.", (61, 86)),
        ("Adults with meningitis: give ceftriaxone 2 g every 12 hours.", (0, 60)),
        ("Do not\n delay  for imaging.", (61, 86)),
        (SOURCE, (0, len(SOURCE))),
    ],
)
def test_whole_sentences_are_quotations_however_they_are_spaced(
    sentence: str, span: tuple[int, int]
) -> None:
    assert check(sentence, SOURCE) == PassageSupport(1.0, span)


pieces = st.sampled_from(
    [
        "Give 5 mg.",
        "Do not give 2.5 mg!",
        "Wait 12 hours.",
        "Avoid it, e.g. in children.",
        "Dose 1,000.",
    ]
)


@given(st.lists(pieces, min_size=1, max_size=6), st.integers(0, 5), st.integers(1, 6))
def test_any_run_of_whole_sentences_is_a_quotation(texts: list[str], first: int, n: int) -> None:
    run = " ".join(texts[first % len(texts) :][:n])
    verdict = check(run, "\n".join(texts))
    assert (verdict.support, verdict.fault) == (1.0, "")
    start, end = verdict.span
    assert " ".join("\n".join(texts)[start:end].split()) == run


@given(st.text(max_size=200))
def test_every_sentence_of_any_passage_is_a_quotation_of_it(text: str) -> None:
    for start, end in sentence_spans(text):
        if text[start:end].split():
            assert check(text[start:end], text).support == 1.0


@given(st.text(max_size=60), st.text(max_size=120), st.text(max_size=20))
def test_any_two_texts_can_be_checked(sentence: str, text: str, title: str) -> None:
    verdict = check(sentence, text, title)
    assert 0.0 <= verdict.support <= 1.0
    assert 0 <= verdict.span[0] <= verdict.span[1] <= len(text)
    assert verdict.holds or verdict.fault


# -- paraphrases ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("Ceftriaxone 2 g twice daily is given to adults with meningitis.", SOURCE),
        ("Above 50 kg, give 1 g of paracetamol.", SOURCE),
        ("Imaging must not delay treatment.", "Treatment is not delayed by imaging."),
        ("It is unsafe in pregnancy.", "It is not safe in pregnancy."),
        ("Avoid clindamycin.", "Clindamycin is contraindicated."),
        ("From 1 to 4 years give 250 mg three times daily.", CHILD),
        ("Yes, digoxin is halved on the first day.", CHILD),
        ("About one in five patients relapses.", "A relapse is seen in 20 % of patients."),
        ("Give it to children.", "Give it to infants and adolescents."),
        ("The interleukin IL 6 is raised.", "The interleukin IL-6 is raised."),
    ],
)
def test_the_same_in_other_words_holds(sentence: str, text: str) -> None:
    verdict = check(sentence, text)
    assert verdict.fault == ""
    assert verdict.support >= 0.45


def test_a_paraphrase_may_rest_on_two_neighbouring_sentences() -> None:
    text = "Ceftriaxone is the first choice. It is given for 7 days. Visitors leave at noon."
    verdict = check("Ceftriaxone, the first choice, is given for 7 days.", text)
    assert verdict.holds
    assert text[slice(*verdict.span)].endswith("7 days.")
    assert verdict.span[0] == 0


def test_the_title_tells_what_a_passage_speaks_of() -> None:
    text = "The loading dose is 25 mg/kg."
    sentence = "The loading dose of vancomycin is 25 mg/kg."
    assert check(sentence, text, "Vancomycin in adults").holds
    assert check(sentence, text).fault == "drug"


# -- what was changed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "text", "fault"),
    [
        ("Give ceftriaxone 4 g every 12 hours.", SOURCE, "dose"),
        ("Give adults ceftriaxone 2 g every 8 hours.", SOURCE, "number"),
        ("Give 5 ml syrup.", SOURCE, "dose"),
        ("Give 1000 g paracetamol above 50 kg.", SOURCE, "unit"),
        ("Give ceftriaxone 2 mg to adults.", SOURCE, "unit"),
        ("Give children ceftriaxone 2 g every 12 hours.", SOURCE, "population"),
        ("Give cefotaxime 2 g every 12 hours to adults.", SOURCE, "drug"),
        ("Delay for imaging.", SOURCE, "negation"),
        ("Do not give adults ceftriaxone 2 g.", SOURCE, "negation"),
        ("Pain in the right arm is typical.", CHILD, "laterality"),
        ("Cool burns under running water.", SOURCE, "words"),
        ("Reduce the dose.", "Increase the dose.", "negation"),
        ("Give it after surgery.", "Give it before surgery.", "negation"),
        ("Give it by mouth to all.", "Give it intravenously to all.", "dose"),
        ("It acts in both men and men.", "It acts in both men and women.", "population"),
        ("The types are 1 and 1 here.", "The types are 1 and 2 here.", "number"),
        ("Not all are not safe.", "Not all are safe.", "negation"),
        ("The FBN3 gene causes it.", "The FBN1 gene causes it.", "words"),
        ("In 50 per thousand it recurs.", "In 50 percent it recurs.", "unit"),
        ("Systolic pressure above 90 mmHg.", "Systolic pressure below 90 mmHg.", "negation"),
    ],
)
def test_a_changed_fact_takes_all_support_and_is_named(
    sentence: str, text: str, fault: str
) -> None:
    verdict = check(sentence, text)
    assert verdict.fault == fault
    assert not verdict.holds
    assert verdict.support == 0.0 or fault == "words"


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("The dose is 500 mg three times daily from 1 to 4 years.", "dose"),
        ("Children who vomit receive co-amoxiclav 500 mg intravenously.", "dose"),
        ("The dose of amiodarone is halved on the first day.", "drug"),
    ],
)
def test_a_value_that_stands_elsewhere_in_the_passage_does_not_count(
    sentence: str, fault: str
) -> None:
    assert check(sentence, CHILD).fault == fault


def test_a_part_that_the_source_knows_nothing_of_is_not_carried() -> None:
    sentence = "Do not delay for imaging, and cool severe burns under clean running water."
    assert check(sentence, SOURCE).fault == "words"


@pytest.mark.parametrize("sentence", ["", " \n", "It is what it was."])
def test_a_sentence_that_says_nothing_has_no_support(sentence: str) -> None:
    assert check(sentence, SOURCE) == PassageSupport(0.0, (0, 0), "words", 0.0)


def test_a_quotation_with_something_after_it_is_none() -> None:
    found = check("Do not delay for imaging. Give tea.", "Do not delay for imaging.")
    assert found.fault == "words"


def test_an_empty_source_carries_nothing() -> None:
    assert check("Give aspirin.", "").fault == "words"


def test_a_wall_of_text_is_carried_only_as_a_quotation() -> None:
    wall = "Give 1 mg and 2 mg and wait " * 60
    assert check(wall + "now", wall).fault == "words"
    assert check(wall, wall).support == 1.0


def test_every_sentence_of_a_draft_must_hold() -> None:
    assert check("Imaging: do not delay. Give adults ceftriaxone 2 g.", SOURCE).span == (0, 86)
    assert check("Imaging: do not delay. Give adults ceftriaxone 3 g.", SOURCE).fault == "dose"


# -- several sources ------------------------------------------------------------------------------

MENINGITIS = source(1, SOURCE)
BURNS = source(2, "Cool burns under running water for 20 minutes.")


def test_the_source_that_is_cited_carries_it_with_its_span() -> None:
    found = check_all("Cool burns for 20 minutes.", [MENINGITIS, BURNS], [2])
    assert found == SourceSupport(found.support, (CitedSpan(2, 0, 46),), "", True)
    assert found.support > 0.45


def test_another_source_is_named_when_the_cited_one_does_not_carry_it() -> None:
    found = check_all("Cool burns for 20 minutes.", [MENINGITIS, BURNS], [1])
    assert (found.cited, found.fault) == (False, "words")
    assert found.spans == (CitedSpan(2, 0, 46),)


def test_nothing_carries_a_sentence_of_another_text() -> None:
    found = check_all("Tea is grown in hills.", [MENINGITIS, BURNS], [1, 2])
    assert found == SourceSupport(0.0, (), "words", False)


def test_a_sentence_that_cites_nothing_is_not_carried() -> None:
    assert check_all("Tea is grown.", [MENINGITIS], []) == SourceSupport(0.0, (), "words", False)


def test_a_cited_source_that_says_otherwise_is_left_out() -> None:
    twenty = source(1, "Cool burns under running water for 20 minutes.")
    ten = source(2, "Cool burns under running water for 10 minutes.")
    found = check_all("Burns are cooled under running water for 10 minutes.", [twenty, ten], [1, 2])
    assert found.cited
    assert [span.n for span in found.spans] == [2]


def test_a_source_about_something_else_carries_nothing_beside_a_nearer_one() -> None:
    near = source(1, "Verapamil is avoided in heart failure with low ejection fraction.")
    far = source(2, "Verapamil is used. Heart rhythm is seen.")
    found = check_all(
        "Verapamil is used in heart failure, low ejection fraction.", [near, far], [1, 2]
    )
    assert (found.cited, found.fault) == (False, "negation")


def test_two_sources_may_carry_a_sentence_together() -> None:
    first = source(1, "Apixaban is the first choice after venous thrombosis.")
    second = source(2, "Apixaban treatment goes on for 6 months in cancer.")
    sentence = (
        "Apixaban is the first choice after venous thrombosis, and treatment goes on for 6 months "
        "in cancer."
    )
    found = check_all(sentence, [first, second], [1, 2])
    assert found.cited
    assert [span.n for span in found.spans] == [1, 2]
    assert found.support > 0.45
    assert not check_all(sentence.replace("6", "9"), [first, second], [1, 2]).cited


def test_two_sources_do_not_lend_each_other_a_number() -> None:
    first = source(1, "Adults receive amoxicillin 1 g.")
    second = source(2, "Children receive amoxicillin 250 mg.")
    assert not check_all("Children receive amoxicillin 1 g.", [first, second], [1, 2]).cited


def test_no_two_sources_are_joined_for_a_sentence_that_says_nothing() -> None:
    assert not check_all("It is.", [MENINGITIS, BURNS], [1, 2]).cited


@given(st.text(max_size=40), st.lists(st.text(max_size=60), max_size=3), st.sets(st.integers(0, 4)))
def test_any_sources_can_be_checked(sentence: str, texts: list[str], cited: set[int]) -> None:
    sources = [source(n, text) for n, text in enumerate(texts, start=1)]
    found = check_all(sentence, sources, sorted(cited))
    assert 0.0 <= found.support <= 1.0
    for span in found.spans:
        assert 0 <= span.start < span.end <= len(texts[span.n - 1])
    assert found.cited == (not found.fault)
