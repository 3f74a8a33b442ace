"""What sealed scoring is measured against: TenSEAL's own encrypted vectors, and SEAL's own files.

Used as TenSEAL's tutorials use it; nothing of the product rests on this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siloquy.sealed import wire
from siloquy.sealed.scoring import Block
from siloquy.types import Vector

DEGREE, PRIME_BITS, SCALE = 8192, (60, 40, 60), 2.0**40
SLOTS = DEGREE // 2


def most_columns(dimension: int) -> int:
    """Rows that one ``matmul`` scores, 0 where none fits; beyond it numbers are silently wrong.

    >>> most_columns(384), most_columns(768)
    (3712, 3328)
    """
    return max(SLOTS - dimension, 0)


@dataclass(frozen=True, slots=True)
class Products:
    """Scores (n,) of n rows, the milliseconds of each call, and the bytes of one call's result."""

    scores: NDArray[np.float64]
    ms: tuple[float, ...]
    bytes: int


class CkksSession:
    """TenSEAL's CKKS with rotation keys: encrypts a query, scores rows in clear, decrypts.

    threads   of TenSEAL itself
    """

    def __init__(self, threads: int) -> None:
        import tenseal

        self._tenseal: Any = tenseal
        kind = tenseal.SCHEME_TYPE.CKKS
        self._context: Any = tenseal.context(kind, DEGREE, -1, list(PRIME_BITS), n_threads=threads)
        self._context.global_scale = SCALE
        self._context.generate_galois_keys()

    @property
    def key_bytes(self) -> int:
        """Bytes of the public and rotation keys that a silo needs once a session."""
        return len(self._context.serialize(save_secret_key=False, save_galois_keys=True))

    def encrypt(self, vector: Vector) -> Any:
        """A (d,) query as one encrypted vector."""
        return self._tenseal.ckks_vector(self._context, vector.tolist())

    def dot(self, query: Any, rows: Vector) -> Products:
        """One ``dot`` for each of (n, d) rows; what is in clear is brought to its type before."""
        plain = [self._tenseal.plain_tensor(row.tolist()) for row in rows]
        timed = [_timed(query.dot, row) for row in plain]
        scores = np.array([result.decrypt()[0] for result, _ in timed])
        return Products(scores, tuple(ms for _, ms in timed), len(timed[0][0].serialize()))

    def matmul(self, query: Any, rows: Vector) -> Products:
        """One ``matmul`` with (n, d) rows as columns, n at most ``most_columns``."""
        columns = self._tenseal.plain_tensor(rows.T.tolist())
        result, ms = _timed(query.matmul, columns)
        return Products(np.array(result.decrypt()), (ms,), len(result.serialize()))


def _timed(call: Any, argument: Any) -> tuple[Any, float]:
    start = perf_counter()
    result = call(argument)
    return result, 1000 * (perf_counter() - start)


# -- prepared rows as files -----------------------------------------------------------------------


class PolynomialFiles:
    """Prepared rows written and read by SEAL itself, one file a polynomial."""

    def __init__(self, folder: Path) -> None:
        from tenseal import sealapi

        self._api: Any = sealapi
        self._folder = folder
        settings = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        settings.set_poly_modulus_degree(wire.DEGREE)
        settings.set_coeff_modulus(sealapi.CoeffModulus.Create(wire.DEGREE, [wire.PRIME_BITS]))
        settings.set_plain_modulus(wire.PLAIN)
        self._context: Any = sealapi.SEALContext(settings, True, sealapi.SEC_LEVEL_TYPE.TC128)

    def save(self, block: Block) -> int:
        """Write a block; its size in bytes."""
        for i, polynomial in block:
            polynomial.save(self._path(i))
        return sum(Path(self._path(i)).stat().st_size for i, _ in block)

    def load(self, chunks: Sequence[int]) -> Block:
        """The block whose ``chunks`` were saved."""
        return tuple((i, self._polynomial(self._path(i))) for i in chunks)

    def _polynomial(self, path: str) -> Any:
        loaded = self._api.Plaintext()
        loaded.load(self._context, path)
        return loaded

    def _path(self, chunk: int) -> str:
        return str(self._folder / str(chunk))
