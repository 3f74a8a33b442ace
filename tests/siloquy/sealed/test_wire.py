"""Sizes, rounding and bytes of sealed scoring: what fits comes back, what does not is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.codec import MAX_MESSAGE_BYTES, encode
from siloquy.errors import Incompatible, IntegrityError
from siloquy.sealed import wire
from siloquy.types import NodeId, QueryId, SealedScores, SearchReply, SignedMessage

MOST_ROWS = wire.MOST_BLOCKS * wire.BLOCK_ROWS
seeds = st.integers(0, 2**32 - 1)


def residues(seed: int, *shape: int) -> wire.Coefficients:
    """Numbers modulo the prime, both ends among them."""
    drawn = np.random.default_rng(seed).integers(0, wire.PRIME, shape, dtype=np.uint64)
    drawn.flat[0], drawn.flat[-1] = wire.PRIME - 1, 0
    return drawn


def product(one: wire.Coefficients, other: wire.Coefficients) -> NDArray[np.int64]:
    """Two plain polynomials multiplied modulo x^DEGREE + 1, as numbers of either sign."""
    long = np.convolve(wire.centred(one).astype(np.int64), wire.centred(other).astype(np.int64))
    folded = np.zeros(2 * wire.DEGREE, dtype=np.int64)
    folded[: len(long)] = long
    return folded[: wire.DEGREE] - folded[wire.DEGREE :]


# -- sizes ----------------------------------------------------------------------------------------


@given(st.integers(0, MOST_ROWS))
@example(MOST_ROWS)
def test_a_size_class_holds_the_rows_and_at_most_an_eighth_more(rows: int) -> None:
    blocks, needed = wire.blocks_for(rows), max(-(-rows // wire.BLOCK_ROWS), 1)
    assert needed <= blocks <= needed * 9 / 8
    assert wire.is_size_class(blocks)
    assert wire.blocks_for(blocks * wire.BLOCK_ROWS) == blocks


@given(st.integers(0, MOST_ROWS), st.integers(0, MOST_ROWS))
def test_more_rows_never_take_fewer_blocks(one: int, other: int) -> None:
    least, most = sorted((one, other))
    assert wire.blocks_for(least) <= wire.blocks_for(most)


def test_there_are_few_size_classes() -> None:
    classes = [n for n in range(1, wire.MOST_BLOCKS + 1) if wire.is_size_class(n)]
    assert classes[:18] == [*range(1, 17), 18, 20]
    assert (len(classes), classes[-1]) == (69, wire.MOST_BLOCKS)


@pytest.mark.parametrize("blocks", [-1, 0, 17, 33, 1025, wire.MOST_BLOCKS + 1, 2048, 10**9])
def test_other_sizes_are_no_class(blocks: int) -> None:
    assert not wire.is_size_class(blocks)


def test_a_silo_of_too_many_passages_is_told_so() -> None:
    with pytest.raises(
        Incompatible, match="425,985 passages, sealed scoring takes 425,984"
    ) as refused:
        wire.blocks_for(MOST_ROWS + 1)
    assert refused.value.hint == "split the silo"


def test_the_largest_reply_fits_a_message_and_the_next_class_would_not() -> None:
    scores = SealedScores(bytes(wire.MOST_BLOCKS * wire.BLOCK_BYTES), bytes(32))
    reply = SearchReply(QueryId(bytes(16)), NodeId("n" * 64), (), sealed=scores)
    assert (
        len(encode(SignedMessage(NodeId("n" * 64), encode(reply), bytes(64)))) < MAX_MESSAGE_BYTES
    )
    assert (wire.MOST_BLOCKS + 128) * wire.BLOCK_BYTES > MAX_MESSAGE_BYTES


@pytest.mark.parametrize(("dimension", "chunks"), [(1, 1), (8, 1), (9, 2), (384, 48), (2048, 256)])
def test_a_query_takes_a_ciphertext_for_eight_numbers(dimension: int, chunks: int) -> None:
    assert wire.chunks(dimension) == chunks
    assert wire.query_bytes(dimension) == chunks * 28_672 < MAX_MESSAGE_BYTES


@pytest.mark.parametrize("dimension", [-8, 0, 2049, 10**9])
def test_a_dimension_without_a_place_is_told(dimension: int) -> None:
    with pytest.raises(Incompatible, match=f"vectors of {dimension} numbers"):
        wire.chunks(dimension)


def test_the_prime_is_the_largest_of_its_kind_that_the_table_admits() -> None:
    larger = range(wire.PRIME + 2 * wire.DEGREE, 1 << wire.PRIME_BITS, 2 * wire.DEGREE)
    assert wire.PRIME % (2 * wire.DEGREE) == 1
    assert wire.PRIME.bit_length() == wire.PRIME_BITS
    assert pow(3, wire.PRIME - 1, wire.PRIME) == 1
    assert all(pow(3, other - 1, other) != 1 for other in larger)


# -- rounding -------------------------------------------------------------------------------------


@given(st.lists(st.floats(-2, 2), max_size=20), st.integers(1, 2048))
def test_rounded_numbers_are_the_nearest_of_twelve_bits(values: list[float], scale: int) -> None:
    levels = wire.rounded(np.array(values), scale)
    assert levels.dtype == np.int16
    for level, value in zip(levels.tolist(), values, strict=True):
        assert level == max(-2047, min(2047, round(value * scale)))


@given(seeds, st.integers(1, 40), st.integers(1, 256))
def test_the_sum_of_products_holds_each_score_at_its_place(seed: int, d: int, real: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.zeros((wire.BLOCK_ROWS, d), dtype=np.int16)
    rows[:real] = rng.integers(-2047, 2048, (real, d))
    query = rng.integers(-2047, 2048, d).astype(np.int16)
    pairs = zip(wire.query_polynomials(query), wire.row_polynomials(rows), strict=True)
    total = sum((product(chunk, block) for chunk, block in pairs), np.zeros(1, dtype=np.int64))
    assert np.array_equal(total[wire.CHUNK - 1 :: wire.CHUNK], rows.astype(int) @ query.astype(int))


def test_numbers_modulo_the_plain_modulus_are_centred() -> None:
    half = wire.PLAIN // 2
    residues = np.array([0, 1, half - 1, half, wire.PLAIN - 1], dtype=np.uint64)
    assert wire.centred(residues).tolist() == [0, 1, half - 1, -half, -1]


def test_a_masked_score_stays_within_what_the_plain_modulus_can_hold() -> None:
    # Rounding adds at most half a level to each number of a row and of a query.
    longest = wire.ROW_SCALE + np.sqrt(wire.MOST_DIMENSION) / 2
    assert longest**2 + wire.MOST_OFFSET < wire.PLAIN / 2


# -- polynomials ----------------------------------------------------------------------------------


@given(seeds, st.integers(1, 4))
def test_polynomials_come_back_as_they_were_packed(seed: int, count: int) -> None:
    polynomials = residues(seed, count, wire.DEGREE)
    data = wire.pack(polynomials)
    assert len(data) == count * wire.POLYNOMIAL_BYTES
    assert np.array_equal(wire.unpack(data, count), polynomials)
    assert wire.pack(wire.unpack(data, count)) == data


@given(st.integers(0, 3), st.integers(0, 4 * wire.POLYNOMIAL_BYTES))
def test_polynomials_of_another_size_are_refused(count: int, size: int) -> None:
    if size == count * wire.POLYNOMIAL_BYTES:
        size += 1
    with pytest.raises(IntegrityError, match=f"{size} bytes of sealed numbers"):
        wire.unpack(bytes(size), count)


@given(st.integers(0, 2 * wire.DEGREE - 1), st.integers(wire.PRIME, 2**56 - 1))
@example(0, wire.PRIME)
@example(2 * wire.DEGREE - 1, wire.PRIME)
def test_a_number_that_is_no_residue_is_refused(place: int, value: int) -> None:
    polynomials = residues(place, 2, wire.DEGREE)
    polynomials.flat[place] = value
    with pytest.raises(IntegrityError, match="out of range"):
        wire.unpack(wire.pack(polynomials), 2)


@given(seeds)
def test_random_bytes_are_refused(seed: int) -> None:
    data = np.random.default_rng(seed).bytes(wire.POLYNOMIAL_BYTES)
    with pytest.raises(IntegrityError):
        wire.unpack(data, 1)


# -- replies --------------------------------------------------------------------------------------

some_blocks = st.sampled_from([1, 2, 3, 16, 18])


@given(seeds, some_blocks)
def test_scores_come_back_within_half_of_what_was_left_out(seed: int, blocks: int) -> None:
    c0, c1 = residues(seed, blocks, wire.BLOCK_ROWS), residues(seed + 1, blocks, wire.DEGREE)
    data = wire.pack_scores(c0, c1)
    assert len(data) == blocks * wire.BLOCK_BYTES
    short, long = wire.unpack_scores(data)
    for kept, whole, dropped in ((short, c0, wire.C0_DROPPED), (long, c1, wire.C1_DROPPED)):
        error = np.abs(kept.astype(np.int64) - whole.astype(np.int64))
        top = whole.astype(np.int64) >> dropped == (wire.PRIME - 1) >> dropped
        assert error[~top].max() <= 1 << (dropped - 1)
        assert (error[top] < 1 << dropped).all()
        assert int(kept.max()) < wire.PRIME
    assert wire.pack_scores(short, long) == data


@given(st.integers(0, 40 * wire.BLOCK_BYTES))
@example(0)
@example(17 * wire.BLOCK_BYTES)
@example(wire.BLOCK_BYTES - 1)
@example(wire.BLOCK_BYTES + 1)
def test_scores_of_no_size_class_are_refused(size: int) -> None:
    if size % wire.BLOCK_BYTES == 0 and wire.is_size_class(size // wire.BLOCK_BYTES):
        size += 1
    with pytest.raises(IntegrityError, match=f"{size} bytes are of no size class"):
        wire.unpack_scores(bytes(size))


def test_scores_of_too_many_blocks_are_refused() -> None:
    with pytest.raises(IntegrityError, match="no size class"):
        wire.unpack_scores(bytes((wire.MOST_BLOCKS + 128) * wire.BLOCK_BYTES))


@given(seeds, some_blocks)
def test_random_scores_of_a_size_class_are_residues(seed: int, blocks: int) -> None:
    short, long = wire.unpack_scores(np.random.default_rng(seed).bytes(blocks * wire.BLOCK_BYTES))
    assert max(int(short.max()), int(long.max())) < wire.PRIME


def test_the_largest_scores_of_a_reply_are_residues_too() -> None:
    short, long = wire.unpack_scores(b"\xff" * wire.BLOCK_BYTES)
    assert max(int(short.max()), int(long.max())) < wire.PRIME


@pytest.mark.parametrize("shares", [((0, 1, 2),), ((2,), (0, 1)), ((1, 2), (), (0,))])
def test_replies_of_several_are_joined_as_if_one_had_made_them(
    shares: tuple[tuple[int, ...], ...],
) -> None:
    generator = np.random.default_rng(0)
    c0 = generator.integers(0, wire.PRIME, (3, wire.BLOCK_ROWS), dtype=np.uint64)
    c1 = generator.integers(0, wire.PRIME, (3, wire.DEGREE), dtype=np.uint64)
    places = [np.array(share, dtype=np.int64) for share in shares]
    parts = [(place, wire.pack_scores(c0[place], c1[place])) for place in places]
    assert wire.joined(parts) == wire.pack_scores(c0, c1)
