from __future__ import annotations

import socket
from pathlib import Path

from siloquy import compose, site
from siloquy.embed import CachedEmbedder, SentenceEncoder
from siloquy.local import free_port
from siloquy.settings import EncoderSettings, Listen


def test_replies_of_the_gateway_do_not_wait_for_a_second_packet() -> None:
    """asyncio turns Nagle's delay off for sockets that say that they are TCP."""
    with compose._bound(Listen(port=free_port())) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_a_gateway_keeps_vectors_of_questions_only_where_its_settings_say_so(
    tmp_path: Path,
) -> None:
    assert isinstance(site.question_encoder(EncoderSettings(), tmp_path), SentenceEncoder)
    assert list(tmp_path.iterdir()) == []
    kept = site.question_encoder(EncoderSettings(cache="questions.sqlite"), tmp_path)
    assert isinstance(kept, CachedEmbedder)
    assert (tmp_path / "questions.sqlite").exists()
    kept._database.close()
