"""When a silo's profile is made, what it costs, and what is sent meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siloquy.codec import encode
from siloquy.errors import BudgetExhausted, StorageFailed
from siloquy.router.profile import check
from siloquy.settings import EncoderSettings, ProfileSettings
from siloquy.silo_node import profiler as profilers
from siloquy.silo_node.chunk import Span
from siloquy.silo_node.privacy import Draw, Releases, composed, period_of, sigma
from siloquy.silo_node.profiler import DAY_MS, LEAST_GROWN, LIFETIME_MS, Profiler, describe
from siloquy.silo_node.sketch import MOST_CELLS
from siloquy.silo_node.store import IndexedDocument, Store
from siloquy.text import embed
from siloquy.text import lexicon as lexicons
from siloquy.text import topics as topic_lists
from siloquy.text.lexicon import Lexicon
from siloquy.types import DocumentId, NodeId, Profile
from siloquy.wire.calls import MOST_PROFILE_BYTES
from tests.silo_node.hospital import (
    PLAIN,
    Clock,
    WordEmbedder,
    document,
    fill,
    open_store,
    put,
    unit,
)
from tests.siloquy.federation import ENCODER, NOW

NORTH = NodeId("north")
LEXICON = Lexicon(("fever", "insulin", "sepsis"), {"fever": 0, "insulin": 1, "sepsis": 2})
NOISED = ProfileSettings()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with the topics' vectors, as the first ingest leaves them."""
    with closing(open_store(tmp_path / "silo.sqlite")) as opened:
        topic_lists.prepare(opened.connection, WordEmbedder())
        yield opened


def profiler(
    store: Store, settings: ProfileSettings = NOISED, clock: Clock | None = None, seed: int = 1
) -> Profiler:
    """With noise of ``seed``."""
    draw: Draw = np.random.default_rng(seed).bytes
    return Profiler(store, ENCODER, settings, clock or Clock(), draw)


def profile(store: Store, settings: ProfileSettings, lexicon: Lexicon = LEXICON) -> Profile:
    made = profiler(store, settings).profile(NORTH, 3, lexicon)
    check(made, ENCODER)
    return made


def charged(store: Store) -> int:
    """Profiles paid for."""
    (count,) = store.connection.execute("SELECT count(*) FROM profile_releases").fetchone()
    return int(count)


# -- as it is -------------------------------------------------------------------------------------


def test_name_version_encoder_privacy_and_dates_are_those_given(store: Store) -> None:
    put(store, unit(20))
    plain, noised = profile(store, PLAIN), profile(store, NOISED)
    assert (plain.silo, plain.version, plain.encoder) == (NORTH, 3, ENCODER)
    assert (plain.created, plain.expires) == (NOW, NOW + LIFETIME_MS)
    assert (plain.epsilon, plain.delta, plain.unit) == (None, 0.0, "document")
    assert (noised.epsilon, noised.delta, noised.unit) == (8.0, 1e-5, "document")
    assert plain.anchors == noised.anchors == topic_lists.anchors(ENCODER)


@pytest.mark.parametrize("settings", [PLAIN, NOISED], ids=["plain", "noised"])
def test_an_empty_silo_tells_that_it_is_whether_noised_or_not(
    store: Store, settings: ProfileSettings
) -> None:
    told = profile(store, settings)
    assert (told.size, told.counts, told.topics, told.frequencies) == (0, (), b"", b"")
    assert charged(store) == 0


def test_without_noise_a_profile_follows_the_content_and_costs_nothing(store: Store) -> None:
    put(store, unit(60))
    assert profile(store, PLAIN).size == 60
    store.delete(DocumentId("0"))
    assert profile(store, PLAIN).size == 59
    assert (charged(store), profiler(store, PLAIN).renew()) == (0, "kept")


def test_only_words_of_the_public_lexicon_are_counted(store: Store) -> None:
    fill(store, [document(str(i), "Insulin for Mrs Featherstonehaugh.") for i in range(25)])
    told = profile(store, PLAIN)
    assert lexicons.unpack(told.frequencies, LEXICON) == pytest.approx([0, 25, 0], rel=0.05)
    assert len(zlib.decompress(told.frequencies)) == len(LEXICON)


def test_a_silo_that_tells_its_size_alone_counts_no_words(store: Store) -> None:
    put(store, unit(PLAIN.least_passages - 1))
    assert profile(store, PLAIN).frequencies == b""


def test_without_topics_a_silo_tells_its_size_alone_and_with_noise_that_it_holds_something(
    tmp_path: Path,
) -> None:
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        put(store, unit(60))
        assert (profile(store, PLAIN).size, profile(store, PLAIN).topics) == (60, b"")
        assert (profile(store, NOISED).size, profile(store, NOISED).topics) == (1, b"")
        assert (charged(store), profiler(store).renew()) == (0, "kept")


def test_a_profile_of_five_thousand_passages_keeps_to_32_kb_with_all_its_directions(
    store: Store,
) -> None:
    lexicon = lexicons.load(embed.model_folder(EncoderSettings()))
    rng = np.random.default_rng(7)
    # A rank's frequency as in natural language (Zipf), so that most words of the lexicon occur.
    ranks = np.minimum(rng.zipf(1.2, size=(5000, 80)), len(lexicon)) - 1
    order = rng.permutation(len(lexicon))
    vectors = unit(5000)
    store.put(
        [
            IndexedDocument(
                document(str(i), text := " ".join(lexicon.words[j] for j in order[row])),
                (Span(0, len(text)),),
                vectors[i : i + 1],
                "",
            )
            for i, row in enumerate(ranks)
        ]
    )
    told = profile(store, PLAIN, lexicon)
    assert (told.size, len(told.counts)) == (5000, MOST_CELLS)
    assert np.count_nonzero(lexicons.unpack(told.frequencies, lexicon)) > 10_000
    assert told.rank >= 4
    assert len(encode(told)) <= MOST_PROFILE_BYTES


def test_what_does_not_fit_loses_directions_first_and_word_counts_last(store: Store) -> None:
    put(store, unit(640))
    told = profile(store, PLAIN)
    assert told.rank == 6
    larger = profilers.fitting(replace(told, frequencies=bytes(9000)))
    assert 0 < larger.rank < 6
    check(larger, ENCODER)
    assert larger.variances[: larger.rank] == told.variances[: larger.rank]
    assert larger.frequencies == bytes(9000)
    none = profilers.fitting(replace(told, frequencies=bytes(40_000)))
    assert (none.rank, none.frequencies) == (0, b"")
    check(none, ENCODER)


# -- made once, and kept --------------------------------------------------------------------------


@pytest.mark.parametrize("passages", [1, 9, 10, 120])
def test_a_noised_profile_is_paid_for_once_and_then_sent_as_it_is(
    store: Store, passages: int
) -> None:
    put(store, unit(passages))
    first, again = (profile(store, NOISED) for _ in range(2))
    assert encode(first) == encode(again)
    assert charged(store) == 1
    assert profiler(store).spent() == pytest.approx(8.0, rel=1e-4)


def test_a_noised_profile_counts_no_words(store: Store) -> None:
    put(store, unit(120))
    assert profile(store, NOISED).frequencies == b""


def test_a_kept_profile_outlives_deletions_until_a_new_one_is_due(store: Store) -> None:
    put(store, unit(120))
    before = profile(store, NOISED)
    for name in range(20):
        store.delete(DocumentId(str(name)))
    assert encode(profile(store, NOISED)) == encode(before)
    assert profiler(store).renew() == "kept"


def test_a_silo_that_lost_all_its_documents_tells_that_it_is_empty(store: Store) -> None:
    put(store, unit(1))
    profile(store, NOISED)
    store.delete(DocumentId("0"))
    assert profile(store, NOISED).size == 0


def test_what_would_be_told_can_be_looked_at_without_being_made(store: Store) -> None:
    put(store, unit(120))
    assert (profiler(store).told().size, profiler(store).made()) == (1, 0)
    assert charged(store) == 0
    profiler(store).make()
    assert profiler(store).told().size == pytest.approx(120, abs=60)
    assert profiler(store).made() == NOW
    assert profiler(store, PLAIN).told().size == 120


def test_an_ingest_describes_the_silo_once(store: Store) -> None:
    put(store, unit(60))
    assert describe(store, WordEmbedder(), NOISED, Clock()) == "made"
    assert describe(store, WordEmbedder(), NOISED, Clock()) == "kept"
    assert charged(store) == 1


def test_an_ingest_of_nothing_describes_nothing(store: Store) -> None:
    assert describe(store, WordEmbedder(), NOISED, Clock()) == "kept"
    assert charged(store) == 0


# -- when it is due -------------------------------------------------------------------------------


def test_unchanged_content_is_never_described_again(store: Store) -> None:
    put(store, unit(60))
    clock = Clock()
    assert profiler(store, clock=clock).renew() == "made"
    clock.now += 1000 * DAY_MS
    assert profiler(store, clock=clock).renew() == "kept"


def test_changed_content_is_described_again_when_the_days_are_over(store: Store) -> None:
    put(store, unit(60))
    clock = Clock()
    profiler(store, clock=clock).renew()
    put(store, unit(1))
    clock.now += round(NOISED.refresh_days * DAY_MS) - 1
    assert profiler(store, clock=clock).renew() == "kept"
    clock.now += 1
    assert profiler(store, clock=clock).renew() == "made"
    assert profiler(store, clock=clock).made() == clock.now


@pytest.mark.parametrize(
    ("before", "after", "renewal"),
    [
        (80, 80 + LEAST_GROWN, "made"),
        (80, 79 + LEAST_GROWN, "kept"),
        (120, 120 + LEAST_GROWN, "kept"),
        (120, 80, "made"),
        (120, 81, "kept"),
        (1, LEAST_GROWN, "kept"),
        (1, LEAST_GROWN + 1, "made"),
    ],
)
def test_a_size_that_jumps_is_described_at_once_if_noise_does_not_hide_the_jump(
    store: Store, before: int, after: int, renewal: str
) -> None:
    put(store, unit(before))
    profiler(store).renew()
    if after > before:
        put(store, unit(after - before))
    for name in range(before - after):
        store.delete(DocumentId(str(name)))
    assert profiler(store).renew() == renewal


def test_a_year_of_daily_changes_never_runs_out(store: Store) -> None:
    """From 1 January of a leap year on: the worst case."""
    clock = Clock(1_704_067_200_000)
    made = 0
    for _ in range(366):
        put(store, unit(1))
        due = profiler(store, replace(NOISED, least_passages=10**6), clock)
        made += due.renew() == "made" if store.counts().passages % 60 else False
        clock.now += DAY_MS
    assert period_of(clock.now - 1) == "2024"
    assert charged(store) == made


def test_by_default_a_year_has_room_for_five_profiles_and_four_are_due() -> None:
    one = sigma(NOISED.epsilon, NOISED.delta)
    together = [composed([one] * n, NOISED.delta) for n in range(1, 7)]
    assert together == pytest.approx([8.0, 12.26, 15.86, 19.12, 22.16, 25.05], abs=0.01)
    assert together[4] < NOISED.yearly < together[5]
    assert int(365 // NOISED.refresh_days) + 1 == 4


# -- the budget -----------------------------------------------------------------------------------


def spend(store: Store, profiles: int, clock: Clock) -> None:
    """So many profiles made by hand."""
    for _ in range(profiles):
        assert profiler(store, clock=clock).make()


def test_a_spent_year_keeps_the_profile_that_there_is(store: Store) -> None:
    put(store, unit(60))
    clock = Clock()
    spend(store, 5, clock)
    before = profile(store, NOISED)
    with pytest.raises(BudgetExhausted):
        profiler(store, clock=clock).make()
    put(store, unit(60))
    assert profiler(store, clock=clock).renew() == "spent"
    assert encode(profile(store, NOISED)) == encode(before)
    clock.now += 366 * DAY_MS
    assert profiler(store, clock=clock).renew() == "made"


def test_another_epsilon_is_another_profile_and_the_old_one_comes_back_free(store: Store) -> None:
    put(store, unit(120))
    before = profile(store, NOISED)
    finer = replace(NOISED, epsilon=2.0)
    assert (profile(store, finer).epsilon, charged(store)) == (2.0, 2)
    assert encode(profile(store, finer)) != encode(before)
    assert encode(profile(store, NOISED)) == encode(before)
    assert charged(store) == 2
    assert 8.0 < profiler(store).spent() < 10.0


def test_a_silo_that_cannot_afford_its_first_profile_tells_only_that_it_is_not_empty(
    store: Store,
) -> None:
    put(store, unit(120))
    clock = Clock()
    spend(store, 5, clock)
    poor = profiler(store, replace(NOISED, delta=2e-5), clock)
    told = poor.profile(NORTH, 4, LEXICON)
    check(told, ENCODER)
    assert (told.size, told.topics, charged(store)) == (1, b"", 5)


def test_a_profile_that_cannot_be_kept_is_not_paid_for_again_and_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, unit(120))
    clock = Clock()
    serving = profiler(store, clock=clock)

    def fail(*arguments: object) -> None:
        raise StorageFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(profilers, "noised_sketch", fail)
        with pytest.raises(StorageFailed):
            serving.profile(NORTH, 4, LEXICON)
        for _ in range(3):
            assert serving.profile(NORTH, 4, LEXICON).size == 1
    assert charged(store) == 1
    clock.now += DAY_MS
    assert serving.profile(NORTH, 4, LEXICON).topics
    assert charged(store) == 2


def test_the_budget_is_charged_before_noise_is_drawn(store: Store) -> None:
    put(store, unit(120))
    paid: list[int] = []

    def draw(size: int) -> bytes:
        paid.append(charged(store))
        return np.random.default_rng(len(paid)).bytes(size)

    Profiler(store, ENCODER, NOISED, Clock(), draw).make()
    assert set(paid) == {1}


def test_what_is_charged_is_the_noise_of_the_settings(store: Store) -> None:
    put(store, unit(120))
    profiler(store, replace(NOISED, epsilon=3.0, delta=1e-6)).make()
    row = store.connection.execute(
        "SELECT created, sigma, epsilon, delta, period FROM profile_releases"
    ).fetchone()
    assert row == (NOW, sigma(3.0, 1e-6), 3.0, 1e-6, period_of(NOW))
    assert Releases(store.connection).spent(period_of(NOW), 1e-6) == pytest.approx(3.0, rel=1e-3)


# -- several at a time ----------------------------------------------------------------------------


def test_an_ingest_and_a_serving_silo_make_one_profile_between_them(
    store: Store, tmp_path: Path
) -> None:
    """Two connections, as of two processes, that both find none."""
    put(store, unit(120))
    told: list[bytes] = []
    with closing(open_store(tmp_path / "silo.sqlite")) as other:
        makers = [profiler(store, seed=1), profiler(other, seed=2)] * 2
        start = threading.Barrier(len(makers))

        def run(one: Profiler, ingests: bool) -> None:
            start.wait()
            if ingests:
                one.renew()
            told.append(encode(one.profile(NORTH, 3, LEXICON)))

        threads = [
            threading.Thread(target=run, args=(one, bool(n % 2))) for n, one in enumerate(makers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert charged(store) == 1
    assert len(set(told)) == 1


def test_documents_that_come_while_a_profile_is_made_are_not_taken_for_described(
    store: Store, tmp_path: Path
) -> None:
    put(store, unit(60))
    clock, draw = Clock(), np.random.default_rng(1).bytes
    with closing(open_store(tmp_path / "silo.sqlite")) as other:

        def late(size: int) -> bytes:
            if other.counts().documents == 60:
                put(other, unit(1))
            return draw(size)

        Profiler(store, ENCODER, NOISED, clock, late).make()
    clock.now += 100 * DAY_MS
    assert profiler(store, clock=clock).renew() == "made"


def test_searches_need_not_wait_while_a_profile_is_made(store: Store) -> None:
    put(store, unit(60))
    draw, free = np.random.default_rng(1).bytes, list[bool]()

    def search() -> None:
        free.append(store.lock.acquire(timeout=5))
        store.lock.release()

    def watched(size: int) -> bytes:
        if not free:
            thread = threading.Thread(target=search)
            thread.start()
            thread.join()
        return draw(size)

    Profiler(store, ENCODER, NOISED, Clock(), watched).make()
    assert free == [True]


# -- whose documents ------------------------------------------------------------------------------


def test_documents_of_a_patient_are_one_group_and_others_groups_of_their_own(store: Store) -> None:
    fill(
        store,
        [
            document("a", "Give fluids. Rest.", patient="7"),
            document("b", "Give oxygen.", patient="7"),
            document("c", "Call for help.", patient="8"),
            document("7", "A leaflet."),
            document("p7", "Another leaflet."),
        ],
    )
    by_document, by_patient = store.groups("document"), store.groups("patient")
    assert len(set(by_document.tolist())) == 5
    assert len(set(by_patient.tolist())) == 4
    assert by_patient[0] == by_patient[1]
    assert len(by_patient) == store.counts().passages


def test_a_patient_with_many_documents_moves_the_size_by_four(store: Store) -> None:
    settings = replace(NOISED, unit="patient", least_passages=1)
    put(store, unit(100), patient="p")
    alone = profiler(store, settings).profile(NORTH, 1, LEXICON)
    many = [document(f"more {n}", "Give fluids.", patient="same") for n in range(50)]
    fill(store, many)
    profiler(store, settings).make()
    told = profiler(store, settings).told()
    assert alone.unit == "patient"
    assert told.size - alone.size == 4


# -- what it loads --------------------------------------------------------------------------------


def test_a_silo_with_a_kept_profile_loads_neither_the_accountant_nor_a_model(
    store: Store, tmp_path: Path
) -> None:
    put(store, unit(120))
    profiler(store).make()
    program = f"""
import sys
from pathlib import Path
from siloquy.text.lexicon import Lexicon
from siloquy.settings import ProfileSettings
from siloquy.silo_node.profiler import Profiler
from siloquy.silo_node.store import Store
from siloquy.types import EncoderSpec
store = Store(Path({str(tmp_path / "silo.sqlite")!r}))
spec = EncoderSpec({ENCODER.name!r}, {ENCODER.sha256!r}, {ENCODER.dimension})
profiler = Profiler(store, spec, ProfileSettings(), lambda: {NOW})
told = profiler.profile("north", 1, Lexicon((), {{}}))
heavy = ("dp_accounting", "scipy", "torch", "faiss", "transformers")
print(len(told.topics) > 0, [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "True []"
