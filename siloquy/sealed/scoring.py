"""Sealed scoring: a silo scores a question that it cannot read, and gives exact integers.

The only importer of TenSEAL (its ``sealapi``: Microsoft SEAL). Bytes from the wire are never given
to SEAL's own parser: ``sealed_wire`` reads them, checks every number, and SEAL's format is written
around the numbers here, in memory alone. What is proven of the scheme stands in docs/sealed.md.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import struct
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import Incompatible, IntegrityError
from siloquy.sealed import wire
from siloquy.sealed.wire import Coefficients, Levels
from siloquy.types import Vector

PINNED = "0.3"
"""Releases of TenSEAL whose file format this module writes."""
FLOOD_BITS = 27
"""Uniform noise of this size on every score hides what the ciphertext's noise tells of the rows."""
# A degenerate public key would hide nothing from a silo; a proper one passes but for 1 in 10^12.
_KEY_TOLERANCE = 7.5
_MAGIC = b"\x5e\xa1\x10\x04\x03\x00\x00\x00"
_HEADER_BYTES = 16
_WINDOW_BYTES = 1 << 17


# -- SEAL -----------------------------------------------------------------------------------------


class _Window:
    """SEAL reads and writes files alone: this one lies in memory and has no name."""

    _file = -1

    def __init__(self) -> None:
        self._file = os.memfd_create("siloquy-sealed", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self._file}"

    def write(self, data: bytes) -> str:
        """Put ``data`` in; the path to read it from."""
        os.ftruncate(self._file, len(data))
        os.pwrite(self._file, data, 0)
        return self.path

    def read(self) -> bytes:
        """What SEAL has written."""
        return os.pread(self._file, _WINDOW_BYTES, 0)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


class _Seal:
    """One context of the fixed parameters, and numbers in and out of SEAL's objects."""

    def __init__(self) -> None:
        import zstandard
        from tenseal import sealapi

        self.api: Any = sealapi
        settings = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        settings.set_poly_modulus_degree(wire.DEGREE)
        modulus = sealapi.CoeffModulus.Create(wire.DEGREE, [wire.PRIME_BITS])
        settings.set_coeff_modulus(modulus)
        settings.set_plain_modulus(wire.PLAIN)
        level = sealapi.SEC_LEVEL_TYPE.TC128
        self.context: Any = sealapi.SEALContext(settings, True, level)
        most_bits = sealapi.CoeffModulus.MaxBitCount(wire.DEGREE, level)
        fits = self.context.parameters_set() and most_bits >= wire.PRIME_BITS
        if not fits or modulus[0].value() != wire.PRIME:
            raise Incompatible("TenSEAL does not take the parameters of sealed scoring")
        self.evaluator: Any = sealapi.Evaluator(self.context)
        self.first: Any = self.context.first_parms_id()
        self._id = struct.pack("<4Q", *self.first)
        self.zstandard: Any = zstandard
        self._local = threading.local()

    @property
    def _window(self) -> _Window:
        window: _Window | None = getattr(self._local, "window", None)
        if window is None:
            window = self._local.window = _Window()
        return window

    def plaintext(self, coefficients: Coefficients) -> Any:
        """A plain polynomial of its first coefficients."""
        body = bytes(32) + struct.pack("<Qd", coefficients.size, 1.0) + _array(coefficients)
        loaded = self.api.Plaintext()
        loaded.load(self.context, self._window.write(_framed(body)))
        return loaded

    def row_plaintext(self, coefficients: Coefficients) -> Any:
        """The same, ready to be multiplied with."""
        loaded = self.plaintext(coefficients)
        self.evaluator.transform_to_ntt_inplace(loaded, self.first)
        return loaded

    def ciphertext(self, polynomials: Coefficients, *, transformed: bool = False) -> Any:
        """A ciphertext of (2, DEGREE) polynomials."""
        loaded = self.api.Ciphertext()
        loaded.load(self.context, self._window.write(self._file(polynomials, transformed)))
        return loaded

    def public_key(self, polynomials: Coefficients) -> Any:
        """A public key of (2, DEGREE) polynomials, transformed as SEAL keeps them."""
        loaded = self.api.PublicKey()
        loaded.load(self.context, self._window.write(self._file(polynomials, True)))
        return loaded

    def polynomials(self, written: Any) -> Coefficients:
        """(2, DEGREE) numbers of a ciphertext or a public key."""
        values = self._saved(written, 73)
        return values.reshape(2, wire.DEGREE)

    def coefficients(self, plaintext: Any) -> Coefficients:
        """(DEGREE,) numbers of a plain polynomial."""
        values = self._saved(plaintext, 48)
        return np.pad(values, (0, wire.DEGREE - values.size))

    def _file(self, polynomials: Coefficients, transformed: bool) -> bytes:
        shape = struct.pack("<BQQQdQ", transformed, 2, wire.DEGREE, 1, 1.0, 1)
        return _framed(self._id + shape + _array(polynomials))

    def _saved(self, value: Any, header_bytes: int) -> Coefficients:
        value.save(self._window.path)
        data = self._window.read()
        (size,) = struct.unpack_from("<Q", data, 8)
        # A decompressor for each call: threads that share one spoil each other's numbers.
        unzip = self.zstandard.ZstdDecompressor().decompressobj()
        body = unzip.decompress(data[_HEADER_BYTES:size])
        at = header_bytes + _HEADER_BYTES
        (count,) = struct.unpack_from("<Q", body, at)
        return np.frombuffer(body, "<u8", count, at + 8)


def _framed(body: bytes) -> bytes:
    return _MAGIC + struct.pack("<Q", _HEADER_BYTES + len(body)) + body


def _array(values: Coefficients) -> bytes:
    return _framed(struct.pack("<Q", values.size) + values.astype("<u8").tobytes())


@functools.cache
def _seal() -> _Seal:
    """The library, tested once; Incompatible where it is missing or not the one that was pinned."""
    try:
        version = importlib.metadata.version("tenseal")
        if not version.startswith(f"{PINNED}."):
            raise Incompatible(f"tenseal {version} is installed, sealed scoring needs {PINNED}")
        seal = _Seal()
        _test(seal)
    except (ImportError, AttributeError, OSError) as error:
        hint = "sealed scoring needs Linux and `pip install siloquy[he]`"
        raise Incompatible(f"no sealed scoring here: {type(error).__name__}", hint) from None
    return seal


def check() -> None:
    """Incompatible, with what to do, where sealed scoring cannot be had."""
    _seal()


def _test(seal: _Seal) -> None:
    """Incompatible unless what SEAL reads and writes here is what this module takes it for."""
    try:
        same = _through_files(seal)
    except (RuntimeError, ValueError, struct.error, seal.zstandard.ZstdError):
        same = False
    if not same:
        raise Incompatible("TenSEAL's files are not of the format that sealed scoring knows")


def _through_files(seal: _Seal) -> bool:
    """Whether numbers come back from SEAL as they went in, and as they were encrypted."""
    numbers = np.arange(2 * wire.DEGREE, dtype=np.uint64).reshape(2, -1)
    key, secret = _key_pair(seal)
    same = [seal.polynomials(seal.ciphertext(numbers)), numbers]
    same += [seal.polynomials(seal.public_key(key)), key]
    encrypted, opened = seal.api.Ciphertext(), seal.api.Plaintext()
    seal.api.Encryptor(seal.context, seal.public_key(key)).encrypt(
        seal.plaintext(numbers[0]), encrypted
    )
    seal.api.Decryptor(seal.context, secret).decrypt(encrypted, opened)
    same += [seal.coefficients(opened), numbers[0]]
    return all(map(np.array_equal, same[::2], same[1::2]))


def _key_pair(seal: _Seal) -> tuple[Coefficients, Any]:
    generator, public = seal.api.KeyGenerator(seal.context), seal.api.PublicKey()
    generator.create_public_key(public)
    return seal.polynomials(public), generator.secret_key()


# -- the hub --------------------------------------------------------------------------------------


class SecretKey:
    """One session's key pair. The secret half is in this object alone: it has no way out."""

    def __init__(self) -> None:
        seal = _seal()
        public, secret = _key_pair(seal)
        self.public = wire.pack(public)
        """``sealed_wire.CIPHERTEXT_BYTES`` bytes: what questions are encrypted under."""
        self._decryptor: Any = seal.api.Decryptor(seal.context, secret)

    def open_scores(self, reply: bytes) -> NDArray[np.int32]:
        """(rows,) masked scores of a silo's reply, padding included; IntegrityError when malformed.

        Only the hub's merge calls this.
        """
        seal = _seal()
        short, long = wire.unpack_scores(reply)
        scores = np.empty(short.shape, dtype=np.int32)
        whole = np.zeros((2, wire.DEGREE), dtype=np.uint64)
        opened = seal.api.Plaintext()
        for row, c0, c1 in zip(scores, short, long, strict=True):
            whole[0, wire.CHUNK - 1 :: wire.CHUNK], whole[1] = c0, c1
            self._decryptor.decrypt(seal.ciphertext(whole), opened)
            row[:] = wire.centred(seal.coefficients(opened)[wire.CHUNK - 1 :: wire.CHUNK])
        return scores.ravel()


# -- the gateway ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealedQuery:
    """An encrypted query, and the mask on its scores: ``scale`` is known here alone."""

    query: bytes
    scale: int
    offset: int


def seal_query(vector: Vector, public: bytes) -> SealedQuery:
    """``vector``, (d,) of unit length, under a session's public key, with a fresh mask.

    IntegrityError for a key that hides nothing.
    """
    seal = _seal()
    scale = _between(wire.LEAST_SCALE, wire.MOST_SCALE)
    offset = _between(-wire.MOST_OFFSET, wire.MOST_OFFSET)
    encryptor = seal.api.Encryptor(seal.context, seal.public_key(read_key(public)))
    encrypted = seal.api.Ciphertext()
    packed = []
    for chunk in wire.query_polynomials(wire.rounded(vector, scale)):
        encryptor.encrypt(seal.plaintext(chunk), encrypted)
        packed.append(wire.pack(seal.polynomials(encrypted)))
    return SealedQuery(b"".join(packed), scale, offset)


def read_key(public: bytes) -> Coefficients:
    """The two polynomials of a public key; IntegrityError when it is none, or hides nothing."""
    seal = _seal()
    numbers = wire.unpack(public, 2)
    # Checked first: SEAL raises an error of its own for a key of zeros.
    if all(map(_looks_uniform, numbers)):
        plain = seal.ciphertext(numbers, transformed=True)
        seal.evaluator.transform_from_ntt_inplace(plain)
        if all(map(_looks_uniform, seal.polynomials(plain))):
            return numbers
    raise IntegrityError("the hub's public key is degenerate: it would hide nothing")


def _looks_uniform(values: Coefficients) -> bool:
    """Whether mean and spread are those of random residues."""
    shares = values / wire.PRIME
    error = _KEY_TOLERANCE / np.sqrt(len(values))
    mean_fits = abs(shares.mean() - 0.5) < error * np.sqrt(1 / 12)
    return bool(mean_fits and abs(((shares - 0.5) ** 2).mean() - 1 / 12) < error * np.sqrt(1 / 180))


def _between(least: int, most: int) -> int:
    """A uniform integer from the operating system's generator, ends included."""
    return least + int.from_bytes(os.urandom(16), "big") % (most - least + 1)


# -- the silo -------------------------------------------------------------------------------------

Block = tuple[tuple[int, Any], ...]
"""Prepared rows: the plain polynomial of each chunk but those of zeros alone."""


def prepare(rows: Levels) -> Block:
    """A block of (BLOCK_ROWS, d) rounded rows, ready to be scored."""
    seal = _seal()
    chunks = enumerate(wire.row_polynomials(rows))
    return tuple((i, seal.row_plaintext(chunk)) for i, chunk in chunks if chunk.any())


class Zeros:
    """Encryptions of zero under one public key, each used once; some are made ahead."""

    def __init__(self, public: bytes) -> None:
        seal = _seal()
        self._encryptor: Any = seal.api.Encryptor(seal.context, seal.public_key(read_key(public)))
        self._made: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._made)

    def make(self) -> None:
        """Make one ahead."""
        self._made.append(self._fresh())

    def take(self) -> Any:
        """One that nobody has had."""
        try:
            return self._made.popleft()
        except IndexError:
            return self._fresh()

    def _fresh(self) -> Any:
        zero = _seal().api.Ciphertext()
        self._encryptor.encrypt_zero(zero)
        return zero


def score(query: Sequence[Any], blocks: Sequence[Block], zeros: Zeros, offset: int) -> bytes:
    """The packed, masked scores of all rows, block by block: nothing of them can be read here.

    Each block's ciphertext is re-randomised, flooded, and cut to the coefficients that are scores.

    query   what ``open_query`` gives
    """
    c0 = np.empty((len(blocks), wire.BLOCK_ROWS), dtype=np.uint64)
    c1 = np.empty((len(blocks), wire.DEGREE), dtype=np.uint64)
    for i, block in enumerate(blocks):
        whole = _score_block(query, block, zeros.take())
        c0[i], c1[i] = whole[0, wire.CHUNK - 1 :: wire.CHUNK], whole[1]
    c0 = (c0 + np.uint64(_offset_residue(offset)) + _flood(c0.shape)) % np.uint64(wire.PRIME)
    return wire.pack_scores(c0, c1)


def open_query(query: bytes, dimension: int) -> list[Any]:
    """The query's ciphertexts, ready to be multiplied; IntegrityError when they are none."""
    seal, count = _seal(), wire.chunks(dimension)
    pairs = wire.unpack(query, 2 * count).reshape(count, 2, wire.DEGREE)
    if not pairs[:, 1].any(axis=1).all():
        raise IntegrityError("a sealed query is not encrypted")
    loaded = [seal.ciphertext(pair) for pair in pairs]
    for ciphertext in loaded:
        seal.evaluator.transform_to_ntt_inplace(ciphertext)
    return loaded


def _score_block(chunks: Sequence[Any], block: Block, zero: Any) -> Coefficients:
    seal = _seal()
    if not block:
        return seal.polynomials(zero)
    total, part = seal.api.Ciphertext(), seal.api.Ciphertext()
    multiply, add = seal.evaluator.multiply_plain, seal.evaluator.add_inplace
    (first, rows), *others = block
    multiply(chunks[first], rows, total)
    for i, rows in others:
        multiply(chunks[i], rows, part)
        add(total, part)
    seal.evaluator.transform_from_ntt_inplace(total)
    add(total, zero)
    return seal.polynomials(total)


def _offset_residue(offset: int) -> int:
    """``offset`` as a message: what is added to c0 so that every score becomes that much more."""
    return ((wire.PRIME * offset + wire.PLAIN // 2) // wire.PLAIN) % wire.PRIME


def _flood(shape: tuple[int, ...]) -> Coefficients:
    """Uniform in [-2^FLOOD_BITS, 2^FLOOD_BITS), as residues."""
    drawn = np.frombuffer(os.urandom(4 * int(np.prod(shape))), np.uint32).reshape(shape)
    size = (drawn >> np.uint32(31 - FLOOD_BITS)).astype(np.uint64)
    return (size + np.uint64(wire.PRIME - (1 << FLOOD_BITS))) % np.uint64(wire.PRIME)
