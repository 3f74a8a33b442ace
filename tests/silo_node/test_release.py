"""The one door: every guard hangs in it, and the ledger hears of all that leaves first."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import decode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError
from siloquy.settings import ReleasePolicy
from siloquy.silo_node import guards, release
from siloquy.silo_node.guards import GuardReply, OfferedPassage, OpenQuestion, Request, RowPlaces
from siloquy.silo_node.release import Door, day_of, hang
from siloquy.silo_node.store import Store
from siloquy.trust import ledger
from siloquy.trust import roster as rosters
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.types import Handle, LedgerHead, NodeId, QueryId, ReleaseReply, Ticket
from tests.product import sources
from tests.silo_node.hospital import POLICY, document, fill, open_store
from tests.siloquy.federation import NOW, Federation

NORTH, WARD, STRANGER = NodeId("north"), NodeId("ward"), NodeId("stranger")
QUERY = QueryId(b"question number 1")
HANDLES = tuple(Handle(bytes([i]) * 16) for i in range(1, 6))
WARDS = [document(f"{i}.md", f"Passage {i}: 🩺 rest well.", f"Ward {i}") for i in range(1, 6)]
DAY = day_of(NOW)
ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Desk:
    """The door of north, and a question of ward at which all five passages were offered."""

    store: Store
    federation: Federation
    question: OpenQuestion
    ticket: Ticket
    policy: ReleasePolicy = POLICY
    gateway: NodeId = WARD
    now: int = NOW

    def open(self, *handles: Handle) -> ReleaseReply:
        """Ask for ``handles``, and mark them used as the service does."""
        door = Door(self.store, self.federation.north, self.policy)
        reply = door.open(self.question, self.ticket, self.gateway, handles, self.now)
        self.question = replace(self.question, used=self.question.used | set(handles))
        return reply

    def spent(self) -> int:
        return guards.spent(self.store.connection, WARD, DAY)

    def entries(self) -> list[ledger.LedgerEntry]:
        return list(ledger.entries(self.store.connection))


@pytest.fixture
def desk(tmp_path: Path, federation: Federation) -> Iterator[Desk]:
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        fill(store, WARDS)
        offered = {handle: OfferedPassage(i, 0.5, 1.5) for i, handle in enumerate(HANDLES, start=1)}
        question = OpenQuestion(QUERY, WARD, "dr 7", "treatment", 5, NOW + 1000, offered)
        claims, lexical = (0.5,) * len(HANDLES), (1.5,) * len(HANDLES)
        ticket = Ticket(QUERY, WARD, NORTH, HANDLES, claims, lexical, 5, NOW + 1000)
        yield Desk(store, federation, question, ticket)


def documents(reply: ReleaseReply) -> list[str]:
    return [passage.document for passage in reply.passages]


# -- what leaves ----------------------------------------------------------------------------------


def test_the_passages_that_were_won_leave_in_the_order_asked(desk: Desk) -> None:
    reply = desk.open(HANDLES[2], HANDLES[0])
    assert (reply.query_id, reply.silo, reply.withheld) == (QUERY, NORTH, 0)
    assert documents(reply) == ["3.md", "1.md"]


def test_a_passage_says_where_it_stands_and_what_was_claimed(desk: Desk) -> None:
    (passage,) = desk.open(HANDLES[1]).passages
    whole = WARDS[1]
    assert passage.text == whole.text[passage.start : passage.end] == whole.text
    assert (passage.id, passage.title) == (f"2.md:0-{len(whole.text)}", "Ward 2")
    assert (passage.handle, passage.silo) == (HANDLES[1], NORTH)
    assert (passage.dense, passage.lexical) == (0.5, 1.5)


def test_a_passage_tells_its_section_and_its_document_s_date(desk: Desk, tmp_path: Path) -> None:
    told = replace(document("1.md", "## Dose\n\nGive 5 mg."), metadata={"date": "2024-03-01"})
    with closing(open_store(tmp_path / "other.sqlite")) as store:
        fill(store, [told])
        desk.store = store
        (passage,) = desk.open(HANDLES[0]).passages
    assert (passage.section, passage.dated) == ("Dose", "2024-03-01")


def test_the_reply_carries_the_signed_head_of_the_ledger(desk: Desk) -> None:
    desk.open(HANDLES[0])
    reply = desk.open(HANDLES[1])
    body = rosters.open_signed(desk.federation.roster, reply.head, HEAD_CONTEXT, "silo")
    head = decode(LedgerHead, body)
    assert (head.silo, head.entries, head.created) == (NORTH, 2, NOW)
    assert ledger.check(desk.store.connection, (head,)) == 2


def test_the_ledger_tells_who_got_what_for_what(desk: Desk) -> None:
    desk.policy = replace(POLICY, most_per_question=2)
    desk.open(*HANDLES[:3])
    assert desk.entries() == [
        ledger.LedgerEntry(
            kind="release",
            created=NOW,
            query=QUERY,
            gateway=WARD,
            requester="dr 7",
            purpose="treatment",
            passages=tuple(f"{i}.md:0-{len(WARDS[i - 1].text)}" for i in (1, 2)),
            withheld={"cap": 1},
            spent=2,
        )
    ]


def test_the_ledger_holds_no_text(desk: Desk) -> None:
    desk.open(*HANDLES)
    (body,) = desk.store.connection.execute("SELECT body FROM ledger").fetchone()
    assert b"rest well" not in body
    assert b"Ward" not in body


def test_a_request_for_nothing_is_refused(desk: Desk) -> None:
    with pytest.raises(PolicyDenied, match="no handle"):
        desk.open()
    assert desk.entries() == []


# -- what is held back ----------------------------------------------------------------------------


def test_the_cap_counts_over_all_requests_of_a_question(desk: Desk) -> None:
    desk.policy = replace(POLICY, most_per_question=3)
    first, second = desk.open(*HANDLES[:2]), desk.open(*HANDLES[2:])
    assert (documents(first), documents(second)) == (["1.md", "2.md"], ["3.md"])
    assert (first.withheld, second.withheld, desk.spent()) == (0, 2, 3)


def test_the_budget_of_the_day_is_counted_and_kept(desk: Desk) -> None:
    desk.policy = replace(POLICY, passages_per_day=3)
    first, second = desk.open(*HANDLES[:2]), desk.open(*HANDLES[2:])
    assert (len(first.passages), len(second.passages), second.withheld) == (2, 1, 2)
    assert (desk.spent(), [entry.spent for entry in desk.entries()]) == (3, [2, 3])
    assert desk.entries()[1].withheld == {"budget": 2}


def test_the_budget_renews_at_midnight_utc(desk: Desk) -> None:
    desk.policy = replace(POLICY, passages_per_day=1)
    midnight = (NOW // 86_400_000 + 1) * 86_400_000
    desk.question = replace(desk.question, expires=midnight + 1000)
    desk.ticket = replace(desk.ticket, expires=midnight + 1000)
    given = []
    for desk.now, handle in zip((NOW, midnight - 1, midnight), HANDLES, strict=False):
        given.append(len(desk.open(handle).passages))
    assert given == [1, 0, 1]


def test_withdrawn_consent_holds_a_passage_back_and_costs_nothing(desk: Desk) -> None:
    desk.store.connection.execute("UPDATE documents SET consent = 0 WHERE id = '2.md'")
    reply = desk.open(*HANDLES[:3])
    assert (documents(reply), reply.withheld, desk.spent()) == (["1.md", "3.md"], 1, 2)
    assert desk.entries()[0].withheld == {"consent": 1}


def test_a_passage_deleted_since_it_was_offered_is_held_back(desk: Desk) -> None:
    desk.store.delete(WARDS[0].id)
    reply = desk.open(*HANDLES[:3])
    assert (documents(reply), reply.withheld, desk.spent()) == (["2.md", "3.md"], 1, 2)
    assert desk.entries()[0].withheld == {"deleted": 1}


def test_a_document_replaced_since_it_was_offered_is_held_back(desk: Desk) -> None:
    fill(desk.store, [document("1.md", "Something else by now.")])
    assert documents(desk.open(*HANDLES[:2])) == ["2.md"]


def test_every_winner_is_released_or_counted_under_one_rule(desk: Desk) -> None:
    desk.policy = replace(POLICY, most_per_question=4, passages_per_day=1)
    desk.store.delete(WARDS[0].id)
    desk.store.connection.execute("UPDATE documents SET consent = 0 WHERE id = '2.md'")
    reply = desk.open(*HANDLES)
    (entry,) = desk.entries()
    assert entry.withheld == {"deleted": 1, "consent": 1, "budget": 1, "cap": 1}
    assert (documents(reply), reply.withheld) == (["3.md"], 4)


# -- sealed questions -----------------------------------------------------------------------------

PADDED = (1, 0, 2, 0, 3)
"""Passages of a sealed reply's rows; 0 is padding."""


def ask_sealed(desk: Desk, *numbers: int) -> None:
    """Make the question a sealed one, at which these rows were offered."""
    offered = {handle: OfferedPassage(n) for handle, n in zip(HANDLES, numbers, strict=False)}
    placed = RowPlaces(bytes(32), np.array([numbers]), np.array([0]))
    desk.question = replace(desk.question, offered=offered, placed=placed)
    desk.ticket = replace(desk.ticket, claims=(), lexical=())


def test_a_passage_of_a_sealed_question_claims_no_score(desk: Desk) -> None:
    ask_sealed(desk, *PADDED)
    (passage,) = desk.open(HANDLES[0]).passages
    assert (passage.document, passage.dense, passage.lexical) == ("1.md", None, None)


def test_padding_that_won_is_no_passage_and_nobody_outside_is_told(desk: Desk) -> None:
    ask_sealed(desk, *PADDED)
    reply = desk.open(*HANDLES)
    assert (documents(reply), reply.withheld, desk.spent()) == (["1.md", "2.md", "3.md"], 0, 3)
    (entry,) = desk.entries()
    assert (entry.withheld, len(entry.passages)) == ({"padding": 2}, 3)


def test_padding_alone_releases_and_costs_nothing(desk: Desk) -> None:
    ask_sealed(desk, 0, 0)
    reply = desk.open(*HANDLES[:2])
    assert (reply.passages, reply.withheld, desk.spent()) == ((), 0, 0)
    assert desk.entries()[0].withheld == {"padding": 2}


def test_what_went_since_a_sealed_question_is_told_apart_from_padding(desk: Desk) -> None:
    ask_sealed(desk, *PADDED)
    desk.store.delete(WARDS[0].id)
    reply = desk.open(*HANDLES[:2])
    assert (reply.passages, reply.withheld) == ((), 1)
    assert desk.entries()[0].withheld == {"deleted": 1, "padding": 1}


def closed_ward(desk: Desk) -> None:
    """A ward more, 6.md, of a collection that answers sealed questions alone."""
    fill(desk.store, [document("6.md", "Passage 6: rest in peace.", collection="psychiatry")])
    desk.policy = replace(POLICY, sealed=("psychiatry",))


def test_an_open_question_gets_no_passage_of_a_closed_collection(desk: Desk) -> None:
    closed_ward(desk)
    offered = {**desk.question.offered, HANDLES[4]: OfferedPassage(6, 0.5, 1.5)}
    desk.question = replace(desk.question, offered=offered)
    reply = desk.open(HANDLES[0], HANDLES[4])
    assert (documents(reply), reply.withheld, desk.spent()) == (["1.md"], 1, 1)
    assert desk.entries()[0].withheld == {"sealed": 1}


def test_a_sealed_question_gets_passages_of_a_closed_collection(desk: Desk) -> None:
    closed_ward(desk)
    ask_sealed(desk, 6, 1)
    assert documents(desk.open(*HANDLES[:2])) == ["6.md", "1.md"]


@pytest.mark.parametrize(
    ("sealed", "collection", "closed"),
    [
        ((), "", False),
        ((), "a", False),
        (("a",), "a", True),
        (("a",), "b", False),
        (("a",), "", False),
        (("*",), "", True),
        (("*",), "b", True),
        (("b", "*"), "a", True),
    ],
)
def test_the_policy_says_which_collections_are_closed(
    sealed: tuple[str, ...], collection: str, closed: bool
) -> None:
    assert release.demands(replace(POLICY, sealed=sealed), collection) == closed


# -- what is refused ------------------------------------------------------------------------------


def unknown_gateway(desk: Desk) -> None:
    desk.gateway = STRANGER


def foreign_question(desk: Desk) -> None:
    desk.question = replace(desk.question, gateway=STRANGER)


def foreign_ticket(desk: Desk) -> None:
    desk.ticket = replace(desk.ticket, k=4)


def expired_ticket(desk: Desk) -> None:
    desk.ticket = replace(desk.ticket, expires=NOW - 1)


def expired_question(desk: Desk) -> None:
    desk.question = replace(desk.question, expires=NOW - 1)


def handle_off_the_ticket(desk: Desk) -> None:
    desk.ticket = replace(desk.ticket, handles=HANDLES[1:], claims=(0.5,) * 4, lexical=(1.5,) * 4)


def handle_never_offered(desk: Desk) -> None:
    offered = {h: item for h, item in desk.question.offered.items() if h != HANDLES[0]}
    desk.question = replace(desk.question, offered=offered)


def false_claim(desk: Desk) -> None:
    desk.ticket = replace(desk.ticket, claims=(0.6,) * 5)


def handle_used(desk: Desk) -> None:
    desk.question = replace(desk.question, used=frozenset(HANDLES[:1]))


def wrong_purpose(desk: Desk) -> None:
    desk.question = replace(desk.question, purpose="marketing")


def more_than_k(desk: Desk) -> None:
    desk.question = replace(desk.question, k=1)
    desk.ticket = replace(desk.ticket, k=1)


REFUSALS: list[tuple[Callable[[Desk], None], type[SiloquyError], str]] = [
    (unknown_gateway, PolicyDenied, "not among the gateways"),
    (foreign_question, PolicyDenied, "asked by another gateway"),
    (foreign_ticket, IntegrityError, "another question, gateway or k"),
    (expired_ticket, PolicyDenied, "expired"),
    (expired_question, PolicyDenied, "expired"),
    (handle_off_the_ticket, IntegrityError, "not on the ticket"),
    (handle_never_offered, IntegrityError, "never offered"),
    (false_claim, IntegrityError, "another similarity"),
    (handle_used, PolicyDenied, "used before"),
    (wrong_purpose, PolicyDenied, "purpose"),
    (more_than_k, PolicyDenied, "more than k = 1"),
]


@pytest.mark.parametrize(
    ("spoil", "error", "words"), REFUSALS, ids=lambda item: getattr(item, "__name__", str(item))
)
def test_the_door_refuses_and_nothing_is_spent(
    desk: Desk, spoil: Callable[[Desk], None], error: type[SiloquyError], words: str
) -> None:
    spoil(desk)
    with pytest.raises(error, match=words):
        desk.open(*HANDLES[:2])
    assert (desk.spent(), desk.entries()) == (0, [])


def test_a_request_that_is_wrong_in_every_way_meets_the_guards_in_order(desk: Desk) -> None:
    spoils = [unknown_gateway, expired_ticket, wrong_purpose]
    for place, words in enumerate(["not among the gateways", "expired", "purpose"]):
        fresh = replace(desk)
        for spoil in spoils[place:]:
            spoil(fresh)
        with pytest.raises(SiloquyError, match=words):
            fresh.open(*HANDLES)


# -- the chain ------------------------------------------------------------------------------------


def documented_chain() -> list[str]:
    """The guards as the module's docstring lists them."""
    paragraph = next(part for part in str(release.__doc__).split("\n\n") if "->" in part)
    return [name.strip() for name in paragraph.split("->")][:-1]


def coded_chain() -> list[str]:
    """The guards as the code hangs them, outermost first."""
    source = inspect.getsource(Door._guarded)
    tuples = [node for node in ast.walk(ast.parse(source.lstrip())) if isinstance(node, ast.Tuple)]
    longest = max(tuples, key=lambda node: len(node.elts))
    return [re.match(r"guards\.(\w+)", ast.unparse(item))[1] for item in longest.elts]  # type: ignore[index]


def test_the_documented_order_of_guards_is_that_of_the_code() -> None:
    assert documented_chain() == coded_chain()
    expected = "running identity ticket purpose cap budget consent sealing deidentify"
    assert coded_chain() == expected.split()


def test_every_guard_of_the_module_hangs_in_the_door() -> None:
    tree = ast.parse(inspect.getsource(guards))
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith(("_", "check_"))
        and ast.unparse(node.returns or ast.Constant(None)) in ("Guard", "GuardReply")
    }
    assert defined == set(coded_chain())


def test_the_first_guard_of_a_chain_is_outermost(desk: Desk) -> None:
    heard: list[str] = []

    def named(name: str) -> guards.Guard:
        def guard(request: Request, release: guards.Release) -> GuardReply:
            heard.append(f"{name} in")
            reply = release(request)
            heard.append(f"{name} out")
            return reply

        return guard

    asked = Request(desk.question, desk.ticket, WARD, (), NOW, DAY)
    assert hang([named("a"), named("b")], lambda request: GuardReply())(asked) == GuardReply()
    assert heard == ["a in", "b in", "b out", "a out"]


@given(st.integers(0, 4_102_444_800_000))
def test_a_day_is_the_utc_date_of_its_milliseconds(now: int) -> None:
    day = day_of(now)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    assert day_of(now // 86_400_000 * 86_400_000) == day


# -- one transaction ------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_written_lets_nothing_leave(desk: Desk) -> None:
    desk.store.connection.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        desk.open(*HANDLES[:2])
    assert (desk.spent(), desk.entries()) == (0, [])
    desk.store.connection.execute("DROP TRIGGER full")
    assert (len(desk.open(*HANDLES[:2]).passages), desk.spent()) == (2, 2)


def test_a_head_that_cannot_be_signed_lets_nothing_leave(desk: Desk) -> None:
    class Lost:
        node = NORTH

        def sign(self, context: str, value: object) -> None:
            raise OSError("the key is gone")

    door = Door(desk.store, Lost(), POLICY)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="gone"):
        door.open(desk.question, desk.ticket, WARD, HANDLES[:2], NOW)
    assert (desk.spent(), desk.entries()) == (0, [])


def test_entry_and_budget_are_durable_before_the_passages_leave(desk: Desk, tmp_path: Path) -> None:
    desk.open(*HANDLES[:2])
    with closing(open_store(tmp_path / "silo.sqlite")) as other:
        assert guards.spent(other.connection, WARD, DAY) == 2
        assert ledger.check(other.connection) == 1


# -- no other door --------------------------------------------------------------------------------


def makers_of_passages(path: Path) -> list[int]:
    """Lines of a file that construct a Passage."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "Passage"
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in names)
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "Passage")
        )
    ]


def test_nothing_but_release_makes_a_passage() -> None:
    makers = {name for name, path in sources() if makers_of_passages(path)}
    assert makers == {"silo_node/release.py"}


def test_the_search_for_other_doors_would_find_one(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("from siloquy.types import Passage as P\nfrom siloquy import types\nP(1)\n")
    assert makers_of_passages(other) == [3]
    other.write_text("from siloquy import types\n\ntypes.Passage(1)\n")
    assert makers_of_passages(other) == [3]
