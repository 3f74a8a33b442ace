"""Sealed scores are exact, no two replies are alike, and the secret key has no way out."""

from __future__ import annotations

import copy
import importlib.metadata
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.errors import Incompatible, IntegrityError
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.sealed.scoring import SealedQuery, SecretKey, Zeros
from siloquy.types import Vector

ROWS, MOST = wire.BLOCK_ROWS, wire.ROW_SCALE - 1
KEY = SecretKey()
STEP = wire.PRIME // wire.PLAIN
"""The distance of two scores in a ciphertext."""


def unit(seed: int, d: int, n: int = 1) -> NDArray[np.float64]:
    """(n, d) random directions."""
    vectors = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def single(seed: int, d: int) -> Vector:
    return np.asarray(unit(seed, d)[0], dtype=np.float32)


def encrypted(vector: Vector, scale: int, offset: int = 0, key: SecretKey = KEY) -> SealedQuery:
    """``vector`` sealed under a mask that is not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = iter((scale, offset))
        patch.setattr(sealed, "_between", lambda least, most: next(drawn))
        return sealed.seal_query(vector, key.public)


def reply(query: SealedQuery, d: int, *blocks: wire.Levels, key: SecretKey = KEY) -> bytes:
    """What a silo of these blocks of rows answers."""
    prepared = [sealed.prepare(block) for block in blocks]
    opened = sealed.open_query(query.query, d)
    return sealed.score(opened, prepared, Zeros(key.public), query.offset)


def true_scores(query: SealedQuery, vector: Vector, *blocks: wire.Levels) -> NDArray[np.int64]:
    rows = np.concatenate(blocks).astype(np.int64)
    return rows @ wire.rounded(vector, query.scale).astype(np.int64) + query.offset


# -- exact ----------------------------------------------------------------------------------------

Kind = Callable[[int, Vector], NDArray[np.floating]]
KINDS: dict[str, Kind] = {
    "random": lambda seed, query: unit(seed, len(query))[0],
    "short": lambda seed, query: 0.01 * unit(seed, len(query))[0],
    "the query": lambda seed, query: query,
    "its opposite": lambda seed, query: -query,
    "zero": lambda seed, query: np.zeros(len(query)),
    "one-hot": lambda seed, query: np.eye(len(query))[seed % len(query)],
    "one-hot below zero": lambda seed, query: -np.eye(len(query))[seed % len(query)],
    "flat": lambda seed, query: np.full(len(query), len(query) ** -0.5),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A query, and blocks of rows, each of the kinds that it lists in turn."""

    seed: int
    d: int
    query: str
    blocks: tuple[tuple[str, ...], ...]
    scale: int
    offset: int

    def vector(self) -> Vector:
        return KINDS[self.query](self.seed, single(self.seed, self.d)).astype(np.float32)

    def rows(self) -> list[wire.Levels]:
        vector = self.vector()
        return [
            wire.rounded(
                np.array([KINDS[kinds[i % len(kinds)]](i, vector) for i in range(ROWS)]),
                wire.ROW_SCALE,
            )
            for kinds in self.blocks
        ]


kinds = st.sampled_from(sorted(KINDS))
scenes = st.builds(
    Scene,
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 40) | st.sampled_from([64, 100, 383, 384]),
    query=st.sampled_from(["random", "one-hot", "one-hot below zero", "flat", "zero"]),
    blocks=st.lists(st.lists(kinds, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(
        tuple
    ),
    scale=st.sampled_from([wire.LEAST_SCALE, 1500, wire.MOST_SCALE]),
    offset=st.sampled_from([-wire.MOST_OFFSET, -1, 0, 1, wire.MOST_OFFSET]),
)
ALIKE, FAR = (("the query",),), (("its opposite", "the query"),)


@given(scenes)
@example(Scene(0, 384, "random", ALIKE, wire.MOST_SCALE, wire.MOST_OFFSET))
@example(Scene(0, 384, "random", FAR, wire.MOST_SCALE, -wire.MOST_OFFSET))
@example(Scene(0, 2048, "flat", FAR, wire.MOST_SCALE, wire.MOST_OFFSET))
@example(Scene(0, 1, "one-hot", FAR, wire.MOST_SCALE, -wire.MOST_OFFSET))
@example(Scene(0, 9, "random", (("zero",), ("random",)), wire.LEAST_SCALE, 5))
def test_opened_scores_are_the_products_of_the_integers(scene: Scene) -> None:
    vector, blocks = scene.vector(), scene.rows()
    query = encrypted(vector, scene.scale, scene.offset)
    opened = KEY.open_scores(reply(query, scene.d, *blocks))
    assert opened.tolist() == true_scores(query, vector, *blocks).tolist()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_at_either_end_of_twelve_bits_is_scored_exactly(sign: int) -> None:
    vector = sign * np.eye(1, dtype=np.float32)[0]
    rows = np.full((ROWS, 1), MOST, dtype=np.int16)
    rows[::2] *= -1
    query = encrypted(vector, wire.MOST_SCALE, sign * wire.MOST_OFFSET)
    opened = KEY.open_scores(reply(query, 1, rows))
    assert opened.tolist() == true_scores(query, vector, rows).tolist()
    assert max(abs(opened)) == MOST**2 + wire.MOST_OFFSET < wire.PLAIN // 2


def test_another_session_opens_no_score() -> None:
    vector, rows = single(0, 16), wire.rounded(unit(1, 16, ROWS), wire.ROW_SCALE)
    query = encrypted(vector, 2048, 7)
    opened = SecretKey().open_scores(reply(query, 16, rows))
    assert np.mean(opened == true_scores(query, vector, rows)) < 0.05


def test_questions_at_once_are_scored_as_exactly() -> None:
    vectors, rows = unit(0, 16, 24).astype(np.float32), wire.rounded(unit(1, 16, ROWS), 2048)

    def holds(vector: Vector) -> bool:
        query = sealed.seal_query(vector, KEY.public)
        opened = KEY.open_scores(reply(query, 16, rows))
        return bool(np.array_equal(opened, true_scores(query, vector, rows)))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(holds, vectors))


# -- noise ----------------------------------------------------------------------------------------


def shifted(data: bytes, by: int) -> bytes:
    """A reply whose scores are off by ``by`` of ``STEP``."""
    c0, c1 = wire.unpack_scores(data)
    moved = (c0.astype(np.int64) + by) % wire.PRIME
    return wire.pack_scores(moved.astype(np.uint64), c1)


@pytest.mark.parametrize("d", [8, 384])
def test_the_error_of_a_score_stays_below_half_of_what_would_spoil_it(d: int) -> None:
    vector = single(d, d)
    rows = wire.rounded(np.repeat(vector[None], ROWS, axis=0), wire.ROW_SCALE)
    for scale in (wire.LEAST_SCALE, wire.MOST_SCALE):
        for _ in range(4):
            query = encrypted(vector, scale, wire.MOST_OFFSET)
            data, expected = reply(query, d, rows), true_scores(query, vector, rows)
            for by in (-STEP // 4, STEP // 4):
                assert np.array_equal(KEY.open_scores(shifted(data, by)), expected)


def test_half_a_step_of_error_would_show() -> None:
    vector, rows = single(0, 8), wire.rounded(unit(1, 8, ROWS), wire.ROW_SCALE)
    query = encrypted(vector, 2048)
    data, expected = reply(query, 8, rows), true_scores(query, vector, rows)
    assert not np.array_equal(KEY.open_scores(shifted(data, STEP // 2)), expected)


def test_the_error_of_a_score_is_the_floods_and_tells_nothing_of_the_rows() -> None:
    """Beyond .09 of a step lie 14 % of the flood on either side, and nothing of the other noise."""
    query, width = encrypted(single(0, 8), 2048), (1 << sealed.FLOOD_BITS) / STEP
    for rows in (np.zeros((ROWS, 8), dtype=np.int16), wire.rounded(unit(1, 8, ROWS), 2048)):
        expected = true_scores(query, single(0, 8), *[rows] * 4)
        data = reply(query, 8, *[rows] * 4)
        for sign in (-1, 1):
            opened = KEY.open_scores(shifted(data, int(sign * STEP * (0.5 - 0.09))))
            share = np.mean(opened != expected)
            assert share == pytest.approx((width - 0.09) / (2 * width), abs=0.07)


def test_a_full_block_leaves_noise_budget_for_the_flood() -> None:
    seal = sealed._seal()
    vector = single(0, 384)
    rows = wire.rounded(np.repeat(vector[None], ROWS, axis=0), wire.ROW_SCALE)
    opened = sealed.open_query(encrypted(vector, 2048).query, 384)
    whole = sealed._score_block(opened, sealed.prepare(rows), Zeros(KEY.public).take())
    left = KEY._decryptor.invariant_noise_budget(seal.ciphertext(whole))
    flood_bits = np.log2(STEP / 2 / (1 << sealed.FLOOD_BITS))
    assert left > flood_bits


def test_the_flood_is_uniform_over_its_width() -> None:
    residues = sealed._flood((64, 256)).astype(np.int64)
    size = np.where(residues > wire.PRIME // 2, residues - wire.PRIME, residues)
    width = 1 << sealed.FLOOD_BITS
    assert -width <= size.min() < -0.99 * width
    assert 0.99 * width < size.max() < width
    assert abs(size.mean()) < 0.05 * width
    assert size.std() == pytest.approx(width / np.sqrt(3), rel=0.02)


@given(st.integers(-wire.MOST_OFFSET, wire.MOST_OFFSET))
def test_an_offset_is_moved_by_whole_steps(offset: int) -> None:
    residue = sealed._offset_residue(offset)
    exact = wire.PRIME * offset / wire.PLAIN % wire.PRIME
    assert 0 <= residue < wire.PRIME
    assert min(abs(residue - exact), wire.PRIME - abs(residue - exact)) <= 4


# -- nothing twice --------------------------------------------------------------------------------


def equal_share(one: bytes, other: bytes) -> float:
    """The largest share of equal bytes in any stretch of 512 of them."""
    a, b = (np.frombuffer(data, np.uint8)[: len(one) // 512 * 512] for data in (one, other))
    return float((a == b).reshape(-1, 512).mean(axis=1).max())


def test_two_replies_to_one_query_differ_everywhere() -> None:
    rows = wire.rounded(unit(1, 16, ROWS), wire.ROW_SCALE)
    query = encrypted(single(0, 16), 2048, 9)
    one, other = (reply(query, 16, rows, rows) for _ in range(2))
    assert len(one) == len(other) == 2 * wire.BLOCK_BYTES
    assert equal_share(one, other) < 0.06
    assert KEY.open_scores(one).tolist() == KEY.open_scores(other).tolist()


def test_two_equal_blocks_of_one_reply_differ_everywhere() -> None:
    rows = wire.rounded(unit(1, 16, ROWS), wire.ROW_SCALE)
    c0, c1 = wire.unpack_scores(reply(encrypted(single(0, 16), 2048), 16, rows, rows))
    assert not (c0[0] == c0[1]).any()
    assert not (c1[0] == c1[1]).any()


def test_a_vector_sealed_twice_shares_neither_bytes_nor_mask() -> None:
    vector = single(0, 16)
    one, other, *more = [sealed.seal_query(vector, KEY.public) for _ in range(8)]
    assert equal_share(one.query, other.query) < 0.06
    assert len({item.scale for item in (one, other, *more)}) > 1
    assert len({item.offset for item in (one, other, *more)}) > 1


def test_masks_are_drawn_from_their_whole_range() -> None:
    drawn = [sealed._between(-2, 2) for _ in range(300)]
    assert set(drawn) == {-2, -1, 0, 1, 2}
    many = [sealed.seal_query(single(0, 1), KEY.public) for _ in range(40)]
    assert all(wire.LEAST_SCALE <= item.scale <= wire.MOST_SCALE for item in many)
    assert all(abs(item.offset) <= wire.MOST_OFFSET for item in many)
    assert {item.offset > 0 for item in many} == {True, False}


def test_nothing_of_the_vector_lies_in_the_bytes() -> None:
    vector = single(3, 16)
    data = sealed.seal_query(vector, KEY.public).query
    assert vector[:2].tobytes() not in data
    for scale in range(wire.LEAST_SCALE, wire.MOST_SCALE + 1):
        levels = wire.rounded(vector, scale)
        assert levels[:4].tobytes() not in data
        assert wire.pack(wire.query_polynomials(levels)[0, :3]) not in data


def test_the_numbers_of_a_sealed_query_look_random() -> None:
    query = sealed.seal_query(np.zeros(64, dtype=np.float32), KEY.public).query
    assert all(sealed._looks_uniform(part) for part in wire.unpack(query, 16))


# -- malformed ------------------------------------------------------------------------------------


@pytest.fixture
def seal_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """SEAL may be given no ciphertext."""

    def read(*_: object, **__: object) -> None:
        raise AssertionError("SEAL saw bytes that do not hold")

    monkeypatch.setattr(sealed._Seal, "ciphertext", read)


@pytest.mark.usefixtures("seal_unread")
@pytest.mark.parametrize("change", [-28_672, -1, 1, 28_672])
def test_a_query_of_another_size_never_comes_to_seal(change: int) -> None:
    with pytest.raises(IntegrityError, match="bytes of sealed numbers"):
        sealed.open_query(bytes(wire.query_bytes(16) + change), 16)


@pytest.mark.usefixtures("seal_unread")
@pytest.mark.parametrize("seed", range(5))
def test_a_query_of_random_bytes_never_comes_to_seal(seed: int) -> None:
    data = np.random.default_rng(seed).bytes(wire.query_bytes(16))
    with pytest.raises(IntegrityError, match="out of range"):
        sealed.open_query(data, 16)
    with pytest.raises(IntegrityError, match="out of range"):
        sealed.read_key(data[: wire.CIPHERTEXT_BYTES])


@pytest.mark.usefixtures("seal_unread")
@pytest.mark.parametrize("size", [0, 1, wire.BLOCK_BYTES - 1, 17 * wire.BLOCK_BYTES])
def test_scores_of_another_size_never_come_to_seal(size: int) -> None:
    with pytest.raises(IntegrityError, match="no size class"):
        KEY.open_scores(bytes(size))


@pytest.mark.parametrize("blank", [(0, 1), (1, 1), (slice(None), slice(None))], ids=str)
def test_a_query_in_clear_is_refused(blank: tuple[Any, Any]) -> None:
    """SEAL raises an error of its own for a ciphertext that hides nothing."""
    data = sealed.seal_query(single(0, 16), KEY.public).query
    pairs = wire.unpack(data, 4).reshape(2, 2, wire.DEGREE).copy()
    pairs[blank] = 0
    with pytest.raises(IntegrityError, match="not encrypted"):
        sealed.open_query(wire.pack(pairs.reshape(4, -1)), 16)


def test_numbers_that_no_silo_sent_open_to_nonsense_within_range() -> None:
    for data in (bytes(wire.BLOCK_BYTES), b"\xff" * wire.BLOCK_BYTES):
        opened = KEY.open_scores(data)
        assert opened.shape == (ROWS,)
        assert max(abs(opened.astype(np.int64))) <= wire.PLAIN // 2


# -- public keys ----------------------------------------------------------------------------------


def noise(bits: int) -> wire.Coefficients:
    return np.random.default_rng(bits).integers(0, 1 << bits, (2, wire.DEGREE), dtype=np.uint64)


def seen_transformed(coefficients: wire.Coefficients) -> wire.Coefficients:
    """A key that is ``coefficients`` before SEAL's transform."""
    seal = sealed._seal()
    ciphertext = seal.ciphertext(coefficients)
    seal.evaluator.transform_to_ntt_inplace(ciphertext)
    return seal.polynomials(ciphertext)


def with_half(place: int, half: wire.Coefficients) -> wire.Coefficients:
    """An honest key with one polynomial of another."""
    key = wire.unpack(KEY.public, 2).copy()
    key[place] = half[place]
    return key


CONSTANT = np.full((2, wire.DEGREE), wire.PRIME // 3, dtype=np.uint64)
NO_KEYS: dict[str, wire.Coefficients] = {
    "zero": np.zeros((2, wire.DEGREE), dtype=np.uint64),
    "constant": CONSTANT,
    "half of the prime": np.full((2, wire.DEGREE), wire.PRIME // 2, dtype=np.uint64),
    "two values": np.tile(np.array([0, wire.PRIME - 1], dtype=np.uint64), (2, wire.DEGREE // 2)),
    "small": noise(40),
    "a bit short": noise(53),
    "small before the transform": seen_transformed(noise(30)),
    "of two parts, the first small": with_half(0, noise(20)),
    "of two parts, the second small": with_half(1, noise(20)),
    "of two parts, the first zero before the transform": with_half(
        0, seen_transformed(np.eye(2, wire.DEGREE, dtype=np.uint64))
    ),
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_a_key_that_hides_nothing_is_refused_by_gateway_and_silo(key: wire.Coefficients) -> None:
    for use in (lambda public: sealed.seal_query(single(0, 8), public), Zeros):
        with pytest.raises(IntegrityError, match="it would hide nothing"):
            use(wire.pack(key))


@pytest.mark.parametrize("size", [0, 1, wire.CIPHERTEXT_BYTES - 1, wire.CIPHERTEXT_BYTES + 7])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(IntegrityError, match="bytes of sealed numbers"):
        sealed.read_key(bytes(size))


def test_honest_keys_are_taken() -> None:
    for _ in range(300):
        assert sealed.read_key(SecretKey().public).shape == (2, wire.DEGREE)


# -- zeros ----------------------------------------------------------------------------------------


def test_zeros_made_ahead_are_used_once_and_first() -> None:
    zeros = Zeros(KEY.public)
    zeros.make()
    zeros.make()
    ahead = list(zeros._made)
    taken = [zeros.take() for _ in range(4)]
    assert taken[:2] == ahead
    assert len({id(zero) for zero in taken}) == 4
    assert len(zeros) == 0


def test_zeros_are_encryptions_of_zero_and_never_alike() -> None:
    seal, zeros = sealed._seal(), Zeros(KEY.public)
    seen = [seal.polynomials(zeros.take()) for _ in range(3)]
    for numbers in seen:
        opened = seal.api.Plaintext()
        KEY._decryptor.decrypt(seal.ciphertext(numbers), opened)
        assert not seal.coefficients(opened).any()
    assert not (seen[0] == seen[1]).any()
    assert not (seen[1] == seen[2]).any()


# -- the library ----------------------------------------------------------------------------------


def test_the_parameters_are_those_of_the_128_bit_table() -> None:
    seal = sealed._seal()
    level = seal.api.SEC_LEVEL_TYPE.TC128
    assert seal.api.CoeffModulus.MaxBitCount(wire.DEGREE, level) == wire.PRIME_BITS
    assert seal.context.parameters_set()
    sealed.check()


def test_another_release_of_the_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.4.0")
    with pytest.raises(Incompatible, match=r"tenseal 0\.4\.0 is installed, .* needs 0\.3"):
        sealed._seal.__wrapped__()


@pytest.mark.parametrize("module", ["tenseal", "zstandard"])
def test_without_the_library_it_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Incompatible, match="no sealed scoring here") as refused:
        sealed._seal.__wrapped__()
    assert "pip install siloquy[he]" in refused.value.hint


def test_without_files_in_memory_it_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    with pytest.raises(Incompatible, match="no sealed scoring here") as refused:
        sealed._seal.__wrapped__()
    assert "Linux" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [("_MAGIC", b"\x5e\xa1\x10\x05\x00\x00\x00\x00"), ("_MAGIC", bytes(8)), ("_HEADER_BYTES", 24)],
    ids=["another version", "another mark", "another header"],
)
def test_another_format_of_files_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(sealed, name, value)
    with pytest.raises(Incompatible, match="not of the format"):
        sealed._seal.__wrapped__()


def test_numbers_that_come_back_changed_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = sealed._Seal.polynomials
    monkeypatch.setattr(sealed._Seal, "polynomials", lambda self, value: honest(self, value) + 1)
    with pytest.raises(Incompatible, match="not of the format"):
        sealed._seal.__wrapped__()


def test_other_parameters_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PRIME", wire.PRIME - 2 * wire.DEGREE)
    with pytest.raises(Incompatible, match="does not take the parameters"):
        sealed._seal.__wrapped__()


# -- the secret key -------------------------------------------------------------------------------


def test_nothing_of_a_key_but_its_public_half_can_be_had() -> None:
    key = SecretKey()
    shown = {name for name in dir(key) if not name.startswith("__")}
    assert shown == {"public", "_decryptor", "open_scores"}
    inner = {name for name in dir(key._decryptor) if not name.startswith("__")}
    assert inner == {"decrypt", "invariant_noise_budget"}
    assert repr(key) == object.__repr__(key)


@pytest.mark.parametrize("copy_of", [pickle.dumps, copy.deepcopy])
def test_a_key_cannot_be_written_down(copy_of: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        copy_of(SecretKey())


def test_what_seal_wrote_last_of_a_new_key_is_its_public_half() -> None:
    key, seal = SecretKey(), sealed._seal()
    written = seal._window.read()
    seal.polynomials(seal.public_key(sealed.read_key(key.public)))
    assert unzipped(written) == unzipped(seal._window.read())


def unzipped(written: bytes) -> bytes:
    whole: bytes = (
        sealed._seal().zstandard.ZstdDecompressor().decompressobj().decompress(written[16:])
    )
    return whole


def test_two_sessions_have_two_keys() -> None:
    assert equal_share(SecretKey().public, SecretKey().public) < 0.06


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_million_scores_hold_no_error() -> None:
    d, count, keys = 384, 100, 4
    rows = wire.rounded(unit(1, d, 416 * ROWS), wire.ROW_SCALE).reshape(-1, ROWS, d)
    prepared, whole = [sealed.prepare(block) for block in rows], rows.reshape(-1, d)
    compared = 0
    for n in range(count):
        if n % (count // keys) == 0:
            key = SecretKey()
        vector = single(n + 2, d)
        query = sealed.seal_query(vector, key.public)
        opened = sealed.open_query(query.query, d)
        scores = sealed.score(opened, prepared, Zeros(key.public), query.offset)
        found = key.open_scores(scores)
        # Sums of 12-bit products stay below 2^53: exact in double precision, and quick.
        asked = wire.rounded(vector, query.scale).astype(np.float64)
        assert np.array_equal(found, whole.astype(np.float64) @ asked + query.offset)
        compared += len(found)
    assert compared >= 10_000_000
