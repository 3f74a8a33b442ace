from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import SiloquyError, TimedOut
from siloquy.generator.understanding.phrasing import (
    MOST_CHARACTERS,
    MOST_PARTS,
    MOST_REPLY,
    ModelPhrasing,
    RulePhrasing,
)
from siloquy.ports import LanguageModel, Message, Phrasing
from siloquy.types import Turn

RULES = RulePhrasing()
GOUT = Turn("How is gout treated in adults?", "Colchicine 500 micrograms twice daily.")
DOSE = Turn("What is the maximum dose of paracetamol in children?", "60 mg/kg in 24 hours.")
DRUGS = Turn("Which drugs treat asthma?", "Salbutamol, ipratropium and prednisolone.")


async def _ask(follow_up: str, *turns: Turn) -> str:
    return await RULES.standalone(turns, follow_up)


@pytest.mark.parametrize(
    ("turn", "follow_up", "written"),
    [
        (GOUT, "What causes it?", "What causes gout in adults?"),
        (GOUT, "And in children?", "How is gout treated in children?"),
        (GOUT, "For how long?", "For how long is gout treated in adults?"),
        (GOUT, "And the symptoms?", "What are the symptoms of gout in adults?"),
        (GOUT, "What if colchicine fails?", "How is gout treated in adults if colchicine fails?"),
        (GOUT, "Who is at risk?", "Who is at risk for gout in adults?"),
        (
            GOUT,
            "What about renal impairment?",
            "How is gout treated in adults with renal impairment?",
        ),
        (DOSE, "And ibuprofen?", "What is the maximum dose of ibuprofen in children?"),
        (DOSE, "How often can it be given?", "How often can paracetamol be given in children?"),
        (DOSE, "and a 3 year old?", "What is the maximum dose of paracetamol in a 3 year old?"),
        (
            DRUGS,
            "What are the side effects of the second one?",
            "What are the side effects of ipratropium in asthma?",
        ),
        (
            Turn("Should steroids be given in croup?", "Yes."),
            "Why not?",
            "Why should steroids not be given in croup?",
        ),
    ],
)
async def test_a_follow_up_is_written_out(turn: Turn, follow_up: str, written: str) -> None:
    assert await _ask(follow_up, turn) == written


@pytest.mark.parametrize(
    "question",
    [
        "What is the LDL cholesterol target after a heart attack?",
        "How is bronchiolitis treated in infants?",
        "Is it safe to give amiodarone with digoxin?",
        "Which drugs that prolong the QT interval are given with ondansetron?",
        "How is sepsis recognised and who is called about it?",
        "A woman has a bladder infection. Which antibiotic is usual and how long does she take it?",
        "What is the use of the Liverpool Elbow Score?",
        "thanks",
        "?",
    ],
)
async def test_a_complete_question_stays_as_it_is(question: str) -> None:
    assert await _ask(question, GOUT, DOSE) == question


async def test_a_drug_comes_from_the_answer() -> None:
    turn = Turn("What is given to a child with anaphylaxis?", "Adrenaline 1 mg/mL at once.")
    written = await _ask("What is the dose for a 7 year old?", turn)
    assert written == "What is the dose of adrenaline for a 7 year old in anaphylaxis?"


async def test_an_earlier_matter_is_taken_up_by_its_name() -> None:
    written = await _ask("Back to the gout: when is it treated?", GOUT, DOSE)
    assert written == "When is gout treated in adults?"


async def test_another_population_takes_the_place_of_the_first() -> None:
    written = await _ask("And the maximum dose in adults?", DOSE)
    assert "adults" in written
    assert "children" not in written


async def test_without_turns_a_question_is_only_tidied_of_spaces() -> None:
    assert await _ask("  And in\n children? ") == "And in children?"


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "What is the dose of apixaban and when should it be stopped?",
            ("What is the dose of apixaban?", "When should apixaban be stopped?"),
        ),
        (
            "How is pneumonia treated in adults versus children?",
            ("How is pneumonia treated in adults?", "How is pneumonia treated in children?"),
        ),
        (
            "How is gout treated? And for how long?",
            ("How is gout treated?", "For how long is gout treated?"),
        ),
        (
            "How often is thyroid function checked on amiodarone and on checkpoint inhibitors?",
            (
                "How often is thyroid function checked on amiodarone?",
                "How often is thyroid function checked on checkpoint inhibitors?",
            ),
        ),
        (
            "She takes lithium. What level is the target? How is toxicity treated?",
            (
                "She takes lithium. What level is the target?",
                "She takes lithium. How is toxicity treated?",
            ),
        ),
    ],
)
async def test_a_compound_question_is_taken_apart(question: str, parts: tuple[str, ...]) -> None:
    assert await RULES.parts(question) == parts


@pytest.mark.parametrize(
    "question",
    [
        "What are the signs and symptoms of brain oedema?",
        "What is the diagnosis and treatment of adrenal crisis?",
        "What are the risks and benefits of bridging?",
        "Can ondansetron and amiodarone be given together?",
        "How is insulin adjusted when steroids are reduced and the glucose falls?",
        "Does it work in vitro and in vivo?",
        "",
    ],
)
async def test_what_asks_one_thing_is_not_taken_apart(question: str) -> None:
    assert await RULES.parts(question) == (question,)


_WORDS = st.sampled_from(
    "and what about if the second one it they this that dose of gout in children , ? ; how long "
    "why not adults versus compare 1. 2. its same for aspirin is are does which back to one".split()
)
_TEXTS = st.one_of(st.lists(_WORDS, max_size=25).map(" ".join), st.text(max_size=200))
_TURNS = st.lists(st.builds(Turn, _TEXTS, _TEXTS), max_size=4)


@given(_TURNS, _TEXTS)
def test_any_text_gives_a_bounded_line(turns: list[Turn], question: str) -> None:
    written = asyncio.run(RULES.standalone(turns, question))
    assert len(written) <= MOST_CHARACTERS
    assert written == " ".join(written.split())
    assert bool(written) == bool(asyncio.run(RULES.standalone([], question)))


@given(_TEXTS)
def test_any_text_has_one_to_four_parts(question: str) -> None:
    parts = asyncio.run(RULES.parts(question))
    assert 1 <= len(parts) <= MOST_PARTS
    assert all(len(part) <= MOST_CHARACTERS for part in parts)


@given(_TEXTS)
def test_without_turns_nothing_is_added(question: str) -> None:
    written = asyncio.run(RULES.standalone([], question))
    assert asyncio.run(RULES.standalone([], written)) == written


def test_a_long_text_takes_no_long_time() -> None:
    question = "and what is the dose of it in children, " * 2_000
    assert len(asyncio.run(RULES.standalone([GOUT], question))) <= MOST_CHARACTERS
    assert len(asyncio.run(RULES.parts("how is it in a and in " * 3_000))) == 1


# -- with a language model ------------------------------------------------------------------------


class Scripted:
    """A language model that says what it was told to say, and remembers what it was asked."""

    name = "scripted"

    def __init__(self, reply: str, error: SiloquyError | None = None) -> None:
        self.reply, self.error = reply, error
        self.asked: list[Sequence[Message]] = []
        self.closed = False

    async def stream(self, messages: Sequence[Message], most_tokens: int) -> AsyncIterator[str]:
        self.asked.append(messages)
        try:
            for start in range(0, len(self.reply), 50):
                yield self.reply[start : start + 50]
            if self.error:
                raise self.error
        finally:
            self.closed = True


def _with(model: LanguageModel) -> Phrasing:
    return ModelPhrasing(model, RULES)


async def test_a_models_rewriting_that_holds_to_what_was_said_is_taken() -> None:
    phrasing = _with(Scripted("What brings on gout in adults?"))
    assert await phrasing.standalone([GOUT], "What causes it?") == "What brings on gout in adults?"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "What causes gout?\nWhat else?",
        "What causes diabetes?",
        "What causes gout? See https://example.org",
        "What causes gout ![x](y)?",
        "What causes gout in 80 % of adults?",
        "Who?",
        "What causes gout? " * 400,
    ],
)
async def test_a_models_reply_that_adds_or_loses_something_gives_way_to_the_rules(
    reply: str,
) -> None:
    phrasing = _with(Scripted(reply))
    assert await phrasing.standalone([GOUT], "What causes it?") == "What causes gout in adults?"


async def test_a_model_that_fails_gives_way_to_the_rules() -> None:
    model = Scripted("What causes", TimedOut("too slow"))
    assert await _with(model).standalone([GOUT], "What causes it?") == "What causes gout in adults?"
    question = "What is the dose of apixaban and when should it be stopped?"
    assert await _with(model).parts(question) == await RULES.parts(question)


async def test_an_endless_reply_is_cut_off_and_closed() -> None:
    model = Scripted("gout " * MOST_REPLY)
    await _with(model).standalone([GOUT], "What causes it?")
    assert model.closed


async def test_a_complete_question_is_not_shown_to_the_model() -> None:
    model = Scripted("What is gout?")
    question = "How is bronchiolitis treated in infants?"
    assert await _with(model).standalone([GOUT], question) == question
    assert not model.asked


async def test_a_models_parts_are_taken_when_they_hold_all_that_was_asked() -> None:
    question = "Tell me the dose of apixaban, then its antidote andexanet alfa."
    model = Scripted("1. What is the dose of apixaban?\n2. Is andexanet alfa the antidote?")
    assert await _with(model).parts(question) == (
        "What is the dose of apixaban?",
        "Is andexanet alfa the antidote?",
    )


@pytest.mark.parametrize(
    "reply",
    [
        "What is the dose of apixaban?\nWhat is the price of apixaban in Peru?",
        "What is the dose?\nWhen is it stopped?",
        "\n".join(["What is apixaban?"] * 9),
    ],
)
async def test_a_models_parts_that_add_or_lose_something_give_way_to_the_rules(reply: str) -> None:
    question = "What is the dose of apixaban and when should it be stopped?"
    assert await _with(Scripted(reply)).parts(question) == await RULES.parts(question)
