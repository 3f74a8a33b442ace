"""The silo's database: all of a change or none of it, and search entries that never go stale."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.errors import Incompatible, StorageFailed
from siloquy.settings import EncoderSettings
from siloquy.silo_node.chunk import Span
from siloquy.silo_node.reading.document import Document, RejectedInput
from siloquy.silo_node.store import Counts, IndexedDocument, Store
from siloquy.text import embed
from siloquy.text import lexicon as lexicons
from siloquy.text.lexicon import Lexicon
from siloquy.text.ranking import TITLE_WEIGHT
from siloquy.types import DocumentId, Term
from tests.silo_node.hospital import WordEmbedder, document, open_store
from tests.siloquy.federation import ENCODER

EMBEDDER = WordEmbedder(replace(ENCODER, dimension=4))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "silo.sqlite")) as opened:
        yield opened


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all examples of the property tests: making a file for each takes seconds."""
    with closing(open_store(tmp_path_factory.mktemp("silo") / "silo.sqlite")) as opened:
        yield opened


def emptied(store: Store) -> Store:
    for name in store.recipe_hashes():
        store.delete(name)
    return store


def indexed(source: Document, *spans: tuple[int, int]) -> IndexedDocument:
    """``source`` with passages at ``spans``, or one of the whole text."""
    cut = tuple(Span(*span) for span in spans or [(0, len(source.text))])
    vectors = EMBEDDER.encode([source.text[span.start : span.end] for span in cut])
    return IndexedDocument(source, cut, vectors, f"recipe {source.content_hash}")


def put(store: Store, *sources: Document) -> None:
    store.put([indexed(source) for source in sources])


def check_words(store: Store) -> None:
    """Raise unless the lexical index agrees with the documents."""
    store.connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")


def matching(store: Store, word: str) -> list[str]:
    """Documents of the passages that hold ``word``."""
    numbers, _ = store.lexical([Term(word, 1.0)])
    return sorted(store.found(numbers)[2])


def contents(store: Store) -> dict[str, tuple[str, str]]:
    rows = store.connection.execute("SELECT id, title, text FROM documents")
    return {name: (title, text) for name, title, text in rows}


# -- writing --------------------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_put(store: Store) -> None:
    put(store, document("a", "Give fluids.", "Shock"))
    (number,) = store.numbers().tolist()
    stored = store.passage(number)
    assert stored is not None
    assert (stored.id, stored.document, stored.title) == ("a:0-12", "a", "Shock")
    assert (stored.text, stored.start, stored.end) == ("Give fluids.", 0, 12)
    assert stored.consent


def sectioned() -> Document:
    return replace(document("a", "## Dose\n\nGive 5 mg.", "Fever"), metadata={"date": "2024-03"})


def test_a_passage_comes_back_with_its_section_and_date(store: Store) -> None:
    store.put([indexed(sectioned(), (0, 7), (9, 19))])
    found = [store.passage(number) for number in store.numbers().tolist()]
    assert [(p.section, p.dated) for p in found if p] == [("Dose", "2024-03")] * 2


def test_a_passage_of_before_sections_were_kept_has_them_too(store: Store) -> None:
    store.put([indexed(sectioned(), (9, 19))])
    (number,) = store.numbers().tolist()
    known = store.passage(number)
    assert known is not None
    old = (number, known.id, known.document, known.title, known.text, known.start, known.end)
    digest = hashlib.sha256(repr(old).encode()).digest()[:16]
    store.connection.execute("UPDATE passage_hashes SET hash = ?", (digest,))
    store.connection.execute("DELETE FROM standings")
    assert store.passage(number) == known


@pytest.mark.parametrize("change", ["UPDATE standings SET section = 'x'", "DELETE FROM standings"])
def test_a_section_that_is_not_as_stored_does_not_leave(store: Store, change: str) -> None:
    store.put([indexed(sectioned(), (9, 19))])
    store.connection.execute(change)
    with pytest.raises(StorageFailed, match="not as it was stored"):
        store.passage(int(store.numbers()[0]))


def test_put_is_all_or_nothing(store: Store) -> None:
    put(store, document("a", "old words"))
    torn = replace(indexed(document("c", "never seen")), vectors=EMBEDDER.encode(["one", "two"]))
    with pytest.raises(ValueError, match="zip"):
        store.put([indexed(document("a", "new words")), indexed(document("b", "more")), torn])
    assert contents(store) == {"a": ("", "old words")}
    assert (matching(store, "old"), matching(store, "new"), matching(store, "never")) == (
        ["a"],
        [],
        [],
    )
    check_words(store)


def test_put_replaces_a_document_with_all_that_hung_on_it(store: Store) -> None:
    store.put([indexed(document("a", "fever and pain", "Old"), (0, 5), (10, 14))])
    put(store, document("a", "rash", "New"))
    assert contents(store) == {"a": ("New", "rash")}
    assert store.counts() == Counts(1, 1, 0, 0)
    assert [matching(store, word) for word in ("fever", "pain", "old")] == [[], [], []]
    assert [matching(store, word) for word in ("rash", "new")] == [["a"], ["a"]]


def test_the_last_of_two_versions_in_a_batch_stays(store: Store) -> None:
    put(store, document("a", "first"), document("a", "second"))
    assert contents(store) == {"a": ("", "second")}
    check_words(store)


def test_delete_takes_passages_vectors_and_words_along(store: Store) -> None:
    store.put([indexed(document("a", "fever and pain"), (0, 5), (10, 14))])
    put(store, document("b", "fever"))
    assert store.delete(DocumentId("a")) == 2
    assert (store.counts(), matching(store, "fever")) == (Counts(1, 1, 0, 0), ["b"])
    assert len(store.vectors()[0]) == 1
    check_words(store)


def test_deleting_what_is_not_here_says_so(store: Store) -> None:
    assert store.delete(DocumentId("nobody")) == -1


def test_a_document_without_passages_goes_with_none(store: Store) -> None:
    store.put(
        [IndexedDocument(document("a", "secret", consent=False), (), EMBEDDER.encode([]), "r")]
    )
    assert (store.counts(), store.delete(DocumentId("a"))) == (Counts(1, 0, 1, 0), 0)


def test_a_passage_number_is_never_used_again(store: Store) -> None:
    put(store, document("a", "one"), document("b", "two"))
    store.delete(DocumentId("b"))
    put(store, document("c", "three"))
    assert store.numbers().tolist() == [1, 3]


def test_a_deleted_passage_is_no_passage(store: Store) -> None:
    put(store, document("a", "one"))
    store.delete(DocumentId("a"))
    assert store.passage(1) is None


def test_what_was_put_survives_a_restart(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        put(store, document("a", "fever"))
        before = store.vectors()
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        assert matching(store, "fever") == ["a"]
        assert np.array_equal(store.vectors()[1], before[1])


changes = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete"]),
        st.sampled_from("abcd"),
        texts,
        texts,
        st.lists(st.integers(0, 40), max_size=6),
    ),
    max_size=12,
)


@given(changes)
def test_any_history_of_changes_leaves_words_and_documents_agreed(
    reused: Store, changes: list[tuple[str, str, str, str, list[int]]]
) -> None:
    store, expected = emptied(reused), dict[str, tuple[str, str]]()
    for verb, name, title, text, cuts in changes:
        if verb == "put":
            ends = sorted({min(cut, len(text)) for cut in cuts})
            spans = list(itertools.pairwise(ends))
            store.put([indexed(document(name, text, title), *spans)])
            expected[name] = (title, text)
        else:
            assert (store.delete(DocumentId(name)) >= 0) == (name in expected)
            expected.pop(name, None)
        check_words(store)
    assert contents(store) == expected
    assert set(store.recipe_hashes()) == set(expected)


@given(texts, st.integers(0, 40), st.integers(0, 40))
def test_offsets_count_characters_beyond_the_basic_plane_too(
    reused: Store, text: str, one: int, other: int
) -> None:
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    store = emptied(reused)
    store.put([indexed(document("a", text), (start, end))])
    stored = store.passage(int(store.numbers()[0]))
    assert stored is not None
    assert (stored.text, stored.start, stored.end) == (text[start:end], start, end)


def test_a_passage_of_emoji_and_rare_script_is_cut_where_it_should_be(store: Store) -> None:
    text = "🩺🩺 pulse \N{GOTHIC LETTER AHSA}\U0001f9ea \U00020000 then rest"
    start = text.index("pulse")
    store.put([indexed(document("a", text), (start, start + 8), (start + 11, len(text)))])
    passages = [store.passage(number) for number in store.numbers().tolist()]
    assert [passage and passage.text for passage in passages] == [
        "pulse \N{GOTHIC LETTER AHSA}\U0001f9ea",
        "then rest",
    ]
    check_words(store)


# -- vectors and facts ----------------------------------------------------------------------------


def test_vectors_come_by_number_or_after_one(store: Store) -> None:
    put(store, *(document(name, name * 3) for name in "abcd"))
    everything = store.vectors()
    numbers, vectors, documents = store.found(np.array([4, 2, 99, 4]))
    assert (everything[0].tolist(), numbers.tolist()) == ([1, 2, 3, 4], [2, 4])
    assert np.array_equal(vectors, everything[1][[1, 3]])
    assert documents == ["b", "d"]
    assert store.vectors(after=3)[0].tolist() == [4]
    assert np.array_equal(everything[1], EMBEDDER.encode([name * 3 for name in "abcd"]))


def test_an_empty_store_has_no_vectors(store: Store) -> None:
    numbers, vectors = store.vectors()
    assert (len(numbers), len(vectors), len(store.numbers())) == (0, 0, 0)
    assert store.counts() == Counts(0, 0, 0, 0)


def test_the_first_encoder_is_bound_and_another_refused(store: Store) -> None:
    store.bind(ENCODER)
    store.bind(ENCODER)
    with pytest.raises(Incompatible, match="encoder 53aa"):
        store.bind(replace(ENCODER, sha256="00" * 32))


def test_counters_go_on_after_a_restart(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        assert [store.next_number("profile") for _ in range(3)] == [1, 2, 3]
        assert store.next_number("other") == 1
    with closing(open_store(tmp_path / "silo.sqlite")) as store:
        assert store.next_number("profile") == 4


def test_the_version_changes_when_another_connection_commits(tmp_path: Path) -> None:
    path = tmp_path / "silo.sqlite"
    with closing(open_store(path)) as here, closing(open_store(path)) as there:
        before = here.version()
        assert here.version() == before
        put(there, document("a", "fever"))
        assert here.version() != before


def test_quarantine_remembers_the_last_reason(store: Store) -> None:
    store.quarantine([RejectedInput("b.pdf", "a scan"), RejectedInput("a.pdf", "encrypted")])
    store.quarantine([RejectedInput("a.pdf", "empty")])
    assert store.quarantined() == [
        RejectedInput("a.pdf", "empty"),
        RejectedInput("b.pdf", "a scan"),
    ]


def test_quarantine_forgets_what_has_been_read_since(store: Store) -> None:
    sources = ["a.pdf", "b.jsonl#line-1", "b.jsonl#line-2", "c.pdf"]
    store.quarantine([RejectedInput(source, "damaged") for source in sources])
    store.settle_quarantine(frozenset({"a.pdf", "b.jsonl"}), frozenset({"b.jsonl#line-2"}))
    assert [item.source for item in store.quarantined()] == ["b.jsonl#line-2", "c.pdf"]


# -- collections ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("collections", "found"),
    [
        ((), []),
        (("psychiatry",), [1, 2, 4]),
        (("surgery",), [3]),
        (("surgery", "psychiatry"), [1, 2, 3, 4]),
        (("Psychiatry",), []),
        (("",), [5]),
        (("*",), [1, 2, 3, 4, 5]),
        (("surgery", "*"), [1, 2, 3, 4, 5]),
    ],
    ids=str,
)
def test_passages_are_found_by_their_collections(
    store: Store, collections: tuple[str, ...], found: list[int]
) -> None:
    long = document("long", "ab cd", collection="psychiatry")
    store.put([indexed(long, (0, 2), (3, 5))])
    put(store, document("cut", "ef", collection="surgery"))
    put(store, document("talk", "gh", collection="psychiatry"), document("none", "ij"))
    assert store.numbers_in(collections).tolist() == found


def test_a_document_that_changes_its_collection_is_found_in_the_new_one(store: Store) -> None:
    put(store, document("a", "ab", collection="psychiatry"))
    put(store, document("a", "ab", collection="surgery"))
    assert store.numbers_in(("psychiatry",)).tolist() == []
    assert store.numbers_in(("surgery",)).tolist() == store.numbers().tolist()


# -- words ----------------------------------------------------------------------------------------

# Too short for the stemmer to change them.
WORDS = ["ox", "ab", "cd", "ef", "gh", "ij"]
K1, B = 1.2, 0.75
bags = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12)
weights = st.floats(0, 20, allow_nan=False)


def bm25(
    bags: Sequence[list[str]], titles: Sequence[list[str]], terms: Sequence[Term]
) -> NDArray[np.float64]:
    """(n,) BM25 (Robertson and Zaragoza 2009) from scratch, the terms' weights as idf."""
    lengths = np.array([len(bag) + len(title) for bag, title in zip(bags, titles, strict=True)])
    said = np.array([[Counter(bag)[term.word] for term in terms] for bag in bags])
    titled = np.array([[Counter(title)[term.word] for term in terms] for title in titles])
    counts = said + TITLE_WEIGHT * titled
    norm = K1 * (1 - B + B * lengths / lengths.mean())
    saturation = counts * (K1 + 1) / (counts + norm[:, None])
    return np.asarray(saturation @ np.array([term.weight for term in terms]))


@given(
    st.lists(st.tuples(bags, st.lists(st.sampled_from(WORDS), max_size=2)), min_size=1, max_size=9),
    st.dictionaries(st.sampled_from([*WORDS, "none"]), weights, min_size=1),
)
def test_lexical_scores_are_bm25_with_the_questions_weights(
    reused: Store, passages: list[tuple[list[str], list[str]]], weights: dict[str, float]
) -> None:
    terms = [Term(word, weight) for word, weight in weights.items()]
    expected = bm25([bag for bag, _ in passages], [title for _, title in passages], terms)
    known = [i for i, (bag, title) in enumerate(passages) if set(bag + title) & weights.keys()]
    store = emptied(reused)
    for i, (bag, title) in enumerate(passages):
        put(store, document(str(i), " ".join(bag), " ".join(title)))
    numbers, scores = store.lexical(terms)
    assert numbers.tolist() == [int(store.numbers()[i]) for i in known]
    assert np.allclose(scores, expected[known], rtol=1e-6, atol=1e-9)


def test_lexical_search_counts_what_is_deleted_no_more(store: Store) -> None:
    put(store, *(document(f"gone {i}", "ox ox ox ox") for i in range(5)))
    put(store, document("a", "ox ab"), document("b", "ab cd ef"))
    for i in range(5):
        store.delete(DocumentId(f"gone {i}"))
    _, scores = store.lexical([Term("ab", 2.0)])
    assert np.allclose(
        scores, bm25([["ox", "ab"], ["ab", "cd", "ef"]], [[], []], [Term("ab", 2.0)])
    )


def test_lexical_search_of_nothing_finds_nothing(store: Store) -> None:
    assert [len(part) for part in store.lexical([Term("ox", 1.0)])] == [0, 0]
    put(store, document("a", "ox"))
    assert [len(part) for part in store.lexical([])] == [0, 0]
    assert [len(part) for part in store.lexical([Term("ab", 1.0)])] == [0, 0]


@pytest.mark.parametrize("word", ["_", "__", "and", "near", "²", "\u017f", "x_y", "ox_"])
def test_words_that_the_index_reads_otherwise_raise_nothing(store: Store, word: str) -> None:
    put(store, document("a", "ox x_y ² \u017f and near"))
    numbers, scores = store.lexical([Term(word, 1.0)])
    assert len(numbers) == len(scores) <= 1


def test_inflected_forms_match(store: Store) -> None:
    put(store, document("a", "The patient was vomiting."))
    assert [matching(store, word) for word in ("vomits", "vomited")] == [["a"], ["a"]]


def test_frequencies_count_passages_not_occurrences(store: Store) -> None:
    lexicon = Lexicon(("ab", "ox", "vomit", "vomits"), {})
    store.put([indexed(document("a", "ox ox vomiting"), (0, 5), (6, 14))])
    put(store, document("b", "none of them", "Ox"), document("c", "ox"))
    store.delete(DocumentId("c"))
    assert store.frequencies(lexicon).tolist() == [0, 2, 1, 1]


def test_frequencies_of_the_packaged_lexicon_find_every_word(store: Store) -> None:
    lexicon = lexicons.load(embed.model_folder(EncoderSettings()))
    put(store, document("a", "Insulin for the patient with sepsis."))
    counts = store.frequencies(lexicon)
    said = {word for word, count in zip(lexicon.words, counts.tolist(), strict=True) if count}
    assert {"insulin", "for", "the", "patient", "patients", "with"} <= said
    assert len(said) < 40


def test_the_check_of_words_itself_notices_a_stale_entry(store: Store) -> None:
    put(store, document("a", "fever"))
    store.connection.execute("UPDATE documents SET text = 'other'")
    with pytest.raises(sqlite3.DatabaseError):
        check_words(store)
