"""Silos of a town that tell what they hold, without noise."""

from __future__ import annotations

import math

from siloquy.settings import ProfileSettings
from siloquy.silo_node.profiler import Profiler
from siloquy.text import topics
from siloquy.types import NodeId, Profile
from siloquy.wire import envelope as envelopes
from tests.end_to_end.canaries import WordEmbedder, lexicon
from tests.end_to_end.malicious_hub import WAIT_S
from tests.end_to_end.town import WARD, Town


async def described(town: Town, silo: NodeId) -> Profile:
    """Let an honest silo tell what it holds, without noise; its profile."""
    site = town.sites[silo]
    topics.prepare(site.store.connection, WordEmbedder())
    settings = ProfileSettings(epsilon=math.inf)
    site.node._profiler = Profiler(site.store, WordEmbedder.spec, settings, town.clock)
    sealed = site.node.profile(lexicon())
    await site.line.call("publish", sealed, WAIT_S)
    received = envelopes.receive(sealed, town.roster, role="silo", kind="profile", now=town.clock())
    return envelopes.open_body(received, town.identities[WARD], Profile)
