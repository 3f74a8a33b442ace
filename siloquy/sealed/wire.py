"""Parameters of sealed scoring, and its numbers as bytes: fixed sizes, every value checked. Pure.

BFV (Fan and Vercauteren 2012) over polynomials of degree below 2,048 modulo x^2048 + 1 and one
54-bit prime, the largest that the 128-bit table of homomorphicencryption.org admits. A query is cut
into chunks of ``CHUNK`` numbers, one ciphertext each; a block holds ``BLOCK_ROWS`` rows of a silo,
chunk by chunk reversed and ``CHUNK`` coefficients apart, so that the score of row s is coefficient
CHUNK * s + CHUNK - 1 of the sum of products. docs/sealed.md derives why every score is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import Incompatible, IntegrityError

DEGREE = 2048
PRIME = 18014398509404161
"""The first prime of 54 bits that is 1 modulo 2 * DEGREE."""
PRIME_BITS = 54
PLAIN = 1 << 24
"""Scores are exact modulo this."""
CHUNK = 8
BLOCK_ROWS = DEGREE // CHUNK
ROW_SCALE = 2048
"""What a row of unit length is multiplied with before it is rounded."""
LEAST_SCALE, MOST_SCALE = 1024, 2048
"""The same of a query, drawn anew for each: the slope of the mask on its scores."""
MOST_DIMENSION = 2048
MOST_OFFSET = 2**22 - 2**17
"""The mask's offset: a masked score stays below PLAIN / 2 in size, rounding of rows included."""

_WIDE_BYTES = 7
POLYNOMIAL_BYTES = _WIDE_BYTES * DEGREE
CIPHERTEXT_BYTES = 2 * POLYNOMIAL_BYTES
"""A ciphertext, or a public key, in full."""

# What is left out of a reply: an error far below the distance of two scores (docs/sealed.md).
C0_DROPPED, C1_DROPPED = 22, 20
_C0_BITS, _C1_BITS = PRIME_BITS - C0_DROPPED, PRIME_BITS - C1_DROPPED
BLOCK_BYTES = BLOCK_ROWS * _C0_BITS // 8 + DEGREE * _C1_BITS // 8
MOST_BLOCKS = 1664
"""A reply of so many blocks, 425,984 rows, still fits a message of the channel."""

Coefficients = NDArray[np.uint64]
Places = NDArray[np.int64]
Levels = NDArray[np.int16]
"""Rows rounded to integers."""


# -- sizes ----------------------------------------------------------------------------------------


def chunks(dimension: int) -> int:
    """Ciphertexts of a query of so many numbers; Incompatible for a dimension that has no place."""
    if not 1 <= dimension <= MOST_DIMENSION:
        raise Incompatible(f"vectors of {dimension} numbers, sealed scoring takes 1 to 2,048")
    return -(-dimension // CHUNK)


def query_bytes(dimension: int) -> int:
    """Size of a packed query."""
    return chunks(dimension) * CIPHERTEXT_BYTES


def blocks_for(rows: int) -> int:
    """Blocks of a silo's reply: the size class of so many rows, at most an eighth above them.

    Classes are 1 to 16, then eight to each doubling: all that a reply's size tells of a silo.

    >>> [blocks_for(rows) for rows in (0, 256, 257, 10_000, 100_000)]
    [1, 1, 2, 40, 416]
    """
    needed = max(-(-rows // BLOCK_ROWS), 1)
    step = 1 << max(needed.bit_length() - 4, 0)
    blocks = -(-needed // step) * step
    if blocks > MOST_BLOCKS:
        raise Incompatible(
            f"{rows:,} passages, sealed scoring takes {MOST_BLOCKS * BLOCK_ROWS:,} a silo",
            "split the silo",
        )
    return blocks


def is_size_class(blocks: int) -> bool:
    """Whether an honest reply may be of so many blocks."""
    return 1 <= blocks <= MOST_BLOCKS and blocks_for(blocks * BLOCK_ROWS) == blocks


# -- rounding -------------------------------------------------------------------------------------


def rounded(vectors: NDArray[np.floating], scale: int) -> Levels:
    """``vectors``, at most of unit length, times ``scale`` as integers of 12 bits."""
    most = ROW_SCALE - 1
    return np.asarray(np.clip(np.rint(vectors * scale), -most, most), dtype=np.int16)


def row_polynomials(rows: Levels) -> Coefficients:
    """(chunks, DEGREE) plain polynomials of the (BLOCK_ROWS, d) rows of one block."""
    count, dimension = rows.shape
    padded = np.zeros((count, chunks(dimension) * CHUNK), dtype=np.int64)
    padded[:, :dimension] = rows
    reversed_chunks = padded.reshape(count, -1, CHUNK)[:, :, ::-1]
    return _plain(reversed_chunks.transpose(1, 0, 2).reshape(-1, DEGREE))


def query_polynomials(query: Levels) -> Coefficients:
    """(chunks, CHUNK) the first coefficients of a query's plain polynomials; the rest are 0."""
    padded = np.zeros(chunks(len(query)) * CHUNK, dtype=np.int64)
    padded[: len(query)] = query
    return _plain(padded.reshape(-1, CHUNK))


def _plain(values: NDArray[np.int64]) -> Coefficients:
    return (values & (PLAIN - 1)).astype(np.uint64)


def centred(coefficients: Coefficients) -> NDArray[np.int32]:
    """Values modulo PLAIN as numbers of either sign, 0 in the middle."""
    values = coefficients.astype(np.int64)
    return np.where(values >= PLAIN // 2, values - PLAIN, values).astype(np.int32)


# -- bytes ----------------------------------------------------------------------------------------


def pack(polynomials: Coefficients) -> bytes:
    """Polynomials modulo PRIME, 7 bytes a coefficient."""
    data = np.ascontiguousarray(polynomials, dtype="<u8").view(np.uint8).reshape(-1, 8)
    return data[:, :_WIDE_BYTES].tobytes()


def unpack(data: bytes, count: int) -> Coefficients:
    """(count, DEGREE) polynomials; IntegrityError for another size or a number out of range."""
    if len(data) != count * POLYNOMIAL_BYTES:
        raise IntegrityError(
            f"{len(data)} bytes of sealed numbers, wanted {count * POLYNOMIAL_BYTES}"
        )
    wide = np.zeros((count * DEGREE, 8), dtype=np.uint8)
    wide[:, :_WIDE_BYTES] = np.frombuffer(data, np.uint8).reshape(-1, _WIDE_BYTES)
    values = wide.view("<u8").reshape(count, DEGREE)
    if count and int(values.max()) >= PRIME:
        raise IntegrityError("a sealed number is out of range")
    return values


def pack_scores(c0: Coefficients, c1: Coefficients) -> bytes:
    """A reply: (blocks, BLOCK_ROWS) score coefficients of c0, (blocks, DEGREE) of c1, rounded.

    c0 in 32 bits; c1 in 34, the low 32 first and then the high 2 of four in a byte.
    """
    short, long = _shortened(c0, C0_DROPPED), _shortened(c1, C1_DROPPED)
    high = (long >> np.uint64(32)).astype(np.uint8).reshape(len(long), DEGREE // 4, 4)
    packed = high[..., 0] | high[..., 1] << 2 | high[..., 2] << 4 | high[..., 3] << 6
    parts = (short.astype("<u4"), (long & np.uint64(2**32 - 1)).astype("<u4"), packed)
    return b"".join(part.tobytes() for part in parts)


def joined(parts: Sequence[tuple[Places, bytes]]) -> bytes:
    """One reply of several packed ones, each with the places of its blocks in the whole."""
    blocks = sum(len(places) for places, _ in parts)
    # Whatever a section holds, a block's part of it is as wide as all others'.
    widths = (4 * BLOCK_ROWS, 4 * DEGREE, DEGREE // 4)
    whole = [np.empty((blocks, width), dtype=np.uint8) for width in widths]
    for places, packed in parts:
        start = 0
        for section, width in zip(whole, widths, strict=True):
            size = len(places) * width
            piece = np.frombuffer(packed, np.uint8, size, start)
            section[places] = piece.reshape(len(places), width)
            start += size
    return b"".join(section.tobytes() for section in whole)


def unpack_scores(data: bytes) -> tuple[Coefficients, Coefficients]:
    """The c0 and c1 of ``pack_scores``, 0 in what was left out; IntegrityError for other sizes."""
    blocks, over = divmod(len(data), BLOCK_BYTES)
    if over or not is_size_class(blocks):
        raise IntegrityError(f"sealed scores of {len(data)} bytes are of no size class")
    first, second = 4 * blocks * BLOCK_ROWS, 4 * blocks * (BLOCK_ROWS + DEGREE)
    short = np.frombuffer(data[:first], "<u4").reshape(blocks, BLOCK_ROWS)
    low = np.frombuffer(data[first:second], "<u4").reshape(blocks, DEGREE)
    packed = np.frombuffer(data[second:], np.uint8).reshape(blocks, DEGREE // 4, 1)
    high = (packed >> np.array([0, 2, 4, 6], dtype=np.uint8)) & 3
    long = low.astype(np.uint64) | high.reshape(blocks, DEGREE).astype(np.uint64) << np.uint64(32)
    # Whatever the bits kept, the whole is below PRIME: it is less than 2^20 from 2^54.
    return short.astype(np.uint64) << np.uint64(C0_DROPPED), long << np.uint64(C1_DROPPED)


def _shortened(values: Coefficients, dropped: int) -> Coefficients:
    half = np.uint64(1 << (dropped - 1))
    most = np.uint64((PRIME - 1) >> dropped)
    return np.asarray(np.minimum((values + half) >> np.uint64(dropped), most))
