"""Which encoder lies on this machine, read from files alone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from siloquy.errors import IntegrityError, SettingsError
from siloquy.settings import EncoderSettings
from siloquy.text import embed
from siloquy.text.embed import (
    DEFAULT_NAME,
    DEFAULT_SHA256,
    CachedEmbedder,
    SentenceEncoder,
    embedder,
    encoder_spec,
    model_folder,
)
from siloquy.types import EncoderSpec

PACKAGED = EncoderSettings()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model of 12 dimensions."""
    folder = tmp_path / "tiny-model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 12}))
    return folder


def test_the_packaged_encoder_is_the_official_one() -> None:
    assert encoder_spec(PACKAGED) == EncoderSpec(DEFAULT_NAME, DEFAULT_SHA256, 384)


def test_the_packaged_encoder_has_a_tokenizer() -> None:
    assert (model_folder(PACKAGED) / "tokenizer.json").is_file()


def test_other_weights_in_the_package_are_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "model_folder", lambda settings: model)
    with pytest.raises(IntegrityError, match=hashlib.sha256(b"weights").hexdigest()[:12]):
        encoder_spec(PACKAGED)


def test_a_folder_is_named_after_itself_and_hashed(model: Path) -> None:
    settings = EncoderSettings(model=str(model))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert encoder_spec(settings) == EncoderSpec("tiny-model", sha256, 12)


def test_old_weights_files_are_read_too(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert encoder_spec(EncoderSettings(model=str(model))).dimension == 12


def test_a_folder_without_weights_is_no_encoder(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(SettingsError, match=r"holds no model\.safetensors"):
        encoder_spec(EncoderSettings(model=str(model)))


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{}",
        '{"hidden_size": "wide"}',
        "[]",
    ],
)
def test_a_folder_without_a_dimension_is_no_encoder(model: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    with pytest.raises(SettingsError, match="hidden_size"):
        encoder_spec(EncoderSettings(model=str(model)))


@pytest.mark.parametrize("name", ["no/such-model", "not a model name", "/no/such/folder"])
def test_a_model_that_is_not_here_is_not_fetched(name: str) -> None:
    with pytest.raises(SettingsError, match="neither a folder nor a model"):
        model_folder(EncoderSettings(model=name))


def test_a_nodes_cache_lies_in_its_folder_unless_it_is_set(tmp_path: Path) -> None:
    assert isinstance(embedder(PACKAGED, tmp_path), CachedEmbedder)
    embedder(EncoderSettings(cache=str(tmp_path / "shared" / "cache")), tmp_path)
    assert (tmp_path / "embeddings.sqlite").exists()
    assert (tmp_path / "shared" / "cache").exists()


def test_only_the_node_itself_can_read_its_cache(tmp_path: Path) -> None:
    embedder(PACKAGED, tmp_path)
    assert (tmp_path / "embeddings.sqlite").stat().st_mode & 0o077 == 0


def test_making_an_encoder_loads_no_model(model: Path) -> None:
    settings = EncoderSettings(model=str(model))
    assert SentenceEncoder(settings, encoder_spec(settings)).encode([]).shape == (0, 12)


def test_the_threads_that_are_set_are_used(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for threads in (0, 3):
        SentenceEncoder(EncoderSettings(threads=threads), encoder_spec(PACKAGED)).encode(["a"])
    assert chosen == [os.cpu_count() or 1, 3]
