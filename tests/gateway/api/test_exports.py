"""A conversation as Markdown: all that was said, and nothing that acts as markup."""

from __future__ import annotations

from dataclasses import replace

from siloquy.gateway.api.conversations import Conversation, KeptTurn, Reference
from siloquy.gateway.api.exports import NOTICE, markdown
from siloquy.types import Missing, NodeId

CONVERSATION = Conversation("id", "Contrast", 1_700_000_000_000, 1_700_000_000_000, 1)
TURN = KeptTurn(
    n=1,
    asked=1_700_000_000_000,
    question="And in children?",
    state="answered",
    understood="When is metformin stopped in children?",
    answer="Stop it 48 hours before. [1]",
    abstained=False,
    sources=(Reference(1, NodeId("north"), "doc.md", "Metformin", 10, 90),),
    missing=(Missing(NodeId("south"), "timeout", "it did not answer"),),
    query_id="ab" * 16,
)


def test_everything_that_was_said_stands_in_it() -> None:
    assert markdown(CONVERSATION, [TURN]) == (
        f"# Contrast\n\n2023-11-14 22:13 UTC. {NOTICE}\n\n"
        "## And in children?\n\nAsked as: When is metformin stopped in children?\n\n"
        "Stop it 48 hours before. \\[1\\]\n\n"
        "- \\[1\\] Metformin, north, doc.md, characters 10 to 90\n\n"
        "Missing: south (timeout)\n\n"
        f"Question {'ab' * 16}, 2023-11-14 22:13 UTC\n"
    )


def test_section_and_date_of_a_reference_stand_beside_its_title() -> None:
    (old,) = TURN.sources
    told = markdown(
        CONVERSATION, [replace(TURN, sources=(replace(old, section="*Dose*", dated="2024-03"),))]
    )
    place = "Metformin, section \\*Dose\\*, dated 2024\\-03, north, doc.md, characters 10 to 90"
    assert place in told


def test_markup_and_links_of_a_text_are_shown_and_do_nothing() -> None:
    hostile = "![x](https://evil.example/p.png) <script>alert(1)</script> `rm` | # *bold*\n# title"
    told = markdown(replace(CONVERSATION, title=hostile), [replace(TURN, answer=hostile)])
    for piece in ("![", "](", "<script>", "`rm`", "*bold*", "\n# title"):
        assert piece not in told
    assert "alert\\(1\\)" in told


def test_a_question_without_an_answer_says_so() -> None:
    asking = replace(TURN, state="asking", answer="")
    assert "(still being answered)" in markdown(CONVERSATION, [asking])
    assert "(not answered)" in markdown(CONVERSATION, [replace(asking, state="unanswered")])
    assert markdown(replace(CONVERSATION, title=""), []).startswith("# Conversation\n")
