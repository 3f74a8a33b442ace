"""The gateway put together."""

from __future__ import annotations

from pathlib import Path

from siloquy.gateway import site
from siloquy.settings import EncoderSettings
from siloquy.text.embed import CachedEmbedder, SentenceEncoder


def test_a_gateway_keeps_vectors_of_questions_only_where_its_settings_say_so(
    tmp_path: Path,
) -> None:
    assert isinstance(site.question_encoder(EncoderSettings(), tmp_path), SentenceEncoder)
    assert list(tmp_path.iterdir()) == []
    kept = site.question_encoder(EncoderSettings(cache="questions.sqlite"), tmp_path)
    assert isinstance(kept, CachedEmbedder)
    assert (tmp_path / "questions.sqlite").exists()
    kept._database.close()
