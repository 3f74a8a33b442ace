"""What every embedder keeps to: the encoder itself and the cache in front of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.ports import Embedder
from siloquy.settings import EncoderSettings
from siloquy.text.embed import BLOCK, CachedEmbedder, SentenceEncoder, encoder_spec
from siloquy.types import EncoderSpec
from tests.silo_node.hospital import WordEmbedder

TEXTS = ["Give 25 mg/kg.", "Nurses watch the drip.", "Give 25 mg/kg.", "", "Ärzte im Dienst: 🩺"]
SETTINGS = EncoderSettings()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sentence_encoder() -> SentenceEncoder:
    return SentenceEncoder(SETTINGS, encoder_spec(SETTINGS))


@pytest.fixture(params=["words", "sentences", "cached words", "cached sentences"])
def embedder(
    request: pytest.FixtureRequest, tmp_path: Path, sentence_encoder: SentenceEncoder
) -> Embedder:
    inner: Embedder = sentence_encoder if "sentences" in request.param else WordEmbedder()
    return CachedEmbedder(inner, tmp_path / "cache") if "cached" in request.param else inner


# -- the contract ---------------------------------------------------------------------------------


def test_every_text_gets_a_row_of_unit_length(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.spec.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_rows_are_in_the_order_of_the_texts(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    assert np.allclose(vectors[::-1], embedder.encode(TEXTS[::-1]), atol=1e-5)
    alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
    assert np.allclose(vectors, alone, atol=1e-5)


def test_equal_texts_get_equal_rows(embedder: Embedder) -> None:
    vectors = embedder.encode(TEXTS)
    assert np.allclose(vectors[0], vectors[2], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=0.1)


def test_no_texts_get_no_rows(embedder: Embedder) -> None:
    assert embedder.encode([]).shape == (0, embedder.spec.dimension)


def test_the_caller_may_write_into_the_rows(embedder: Embedder) -> None:
    first = embedder.encode(TEXTS)
    first *= 0
    assert np.allclose(np.linalg.norm(embedder.encode(TEXTS), axis=1), 1, atol=1e-5)


# -- the cache ------------------------------------------------------------------------------------


def test_a_cached_text_is_not_computed_again(tmp_path: Path) -> None:
    inner = WordEmbedder()
    cache = CachedEmbedder(inner, tmp_path / "cache")
    first = cache.encode(TEXTS)
    assert np.array_equal(cache.encode(TEXTS), first)
    assert (len(inner.calls), cache.computed) == (1, len(set(TEXTS)))


def test_a_repeated_text_is_computed_once(tmp_path: Path) -> None:
    inner = WordEmbedder()
    CachedEmbedder(inner, tmp_path / "cache").encode(["one"] * 5)
    assert inner.calls == [["one"]]


def test_the_cache_outlives_the_process(tmp_path: Path) -> None:
    first = CachedEmbedder(WordEmbedder(), tmp_path / "cache").encode(TEXTS)
    inner = WordEmbedder(fails_at=0)
    assert np.array_equal(CachedEmbedder(inner, tmp_path / "cache").encode(TEXTS), first)


def test_another_encoder_shares_no_entry(tmp_path: Path) -> None:
    CachedEmbedder(WordEmbedder(), tmp_path / "cache").encode(TEXTS)
    other = WordEmbedder(EncoderSpec("other", "00" * 32, 8))
    cache = CachedEmbedder(other, tmp_path / "cache")
    assert (cache.spec, cache.encode(TEXTS).shape) == (other.spec, (len(TEXTS), 8))


def test_the_cache_holds_no_text(tmp_path: Path) -> None:
    CachedEmbedder(WordEmbedder(), tmp_path / "cache").encode(["paracetamol"])
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert kept
    assert b"paracetamol" not in kept


def test_long_texts_are_computed_first(tmp_path: Path) -> None:
    inner = WordEmbedder()
    CachedEmbedder(inner, tmp_path / "cache").encode(["a", "a long one", "a word"])
    assert inner.calls == [["a long one", "a word", "a"]]


def test_progress_counts_found_and_computed_texts(tmp_path: Path) -> None:
    CachedEmbedder(WordEmbedder(), tmp_path / "cache").encode(["a", "b"])
    told: list[int] = []
    texts = [f"text {i}" for i in range(BLOCK + 5)]
    CachedEmbedder(WordEmbedder(), tmp_path / "cache", told.append).encode(["a", *texts, "b"])
    assert told == [2, BLOCK, 5]


def test_an_interruption_keeps_the_finished_blocks(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(2 * BLOCK + 5)]
    with pytest.raises(InterruptedError):
        CachedEmbedder(WordEmbedder(fails_at=2), tmp_path / "cache").encode(texts)
    inner = WordEmbedder()
    vectors = CachedEmbedder(inner, tmp_path / "cache").encode(texts)
    assert [len(call) for call in inner.calls] == [5]
    assert np.array_equal(vectors, WordEmbedder().encode(texts))


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=6), max_size=4)
)
def test_any_order_of_calls_gives_what_the_encoder_gives(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[str]]
) -> None:
    cache = CachedEmbedder(WordEmbedder(), tmp_path_factory.mktemp("cache") / "cache")
    for texts in calls:
        assert np.array_equal(cache.encode(texts), WordEmbedder().encode(texts))


def test_a_cached_text_loads_no_torch(tmp_path: Path) -> None:
    spec = encoder_spec(SETTINGS)
    CachedEmbedder(WordEmbedder(spec), tmp_path / "embeddings.sqlite").encode(TEXTS)
    program = (
        "import sys; from pathlib import Path; from siloquy.text.embed import embedder; "
        "from siloquy.settings import EncoderSettings; "
        "made = embedder(EncoderSettings(), Path(sys.argv[1])); "
        "print(made.encode(sys.argv[2:]).shape, made.computed, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), *TEXTS]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == f"({len(TEXTS)}, {spec.dimension}) 0 False"
