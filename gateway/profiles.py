"""The silos' profiles at the gateway: opened as they come, and new ones held to their word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from siloquy.errors import SiloquyError, Unreachable
from siloquy.gateway.phases import Phases
from siloquy.ports import Hub, Router
from siloquy.router.profile import OpenedProfiles, Versions, countable, open_all
from siloquy.router.trust import PROBE_K
from siloquy.settings import AUDIT_PURPOSE
from siloquy.text.lexicon import Lexicon
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.types import NodeId, Probe, Sealing, SearchRequest, Vector

PROBE_TIMEOUT_S = 5.0
PROBES_AT_ONCE = 4
# A silo is given so long before its next probes: what changes all the time is not asked all the
# time, and one that does not answer is let alone for longer.
PROBE_PAUSE_S, UNANSWERED_PAUSE_S = 30.0, 300.0
_log = logging.getLogger(__name__)


class ProfileBook:
    """The profiles that this gateway plans with; ``opened`` is replaced as a whole."""

    def __init__(
        self,
        identity: Identity,
        pinned: PinnedRoster,
        hub: Hub,
        phases: Phases,
        lexicon: Lexicon,
        router: Router,
        versions: Versions,
        clock: Callable[[], int],
    ) -> None:
        self._identity = identity
        self._pinned = pinned
        self._hub = hub
        self._phases = phases
        self._lexicon = lexicon
        self._router = router
        self._versions = versions
        self._clock = clock
        self._probe_after: dict[NodeId, float] = {}
        self.opened = OpenedProfiles((), ())

    def sealing(self) -> dict[NodeId, Sealing]:
        """What silos tell of sealed questions."""
        return {profile.silo: profile.sealing for profile in self.opened.profiles}

    async def refresh(self) -> None:
        """Open the profiles that the hub holds for this gateway."""
        sealed = await self._hub.profiles()
        opened = await asyncio.to_thread(
            open_all,
            sealed,
            self._identity,
            self._pinned.current,
            self._versions,
            self._clock(),
            self.opened.profiles,
        )
        opened = countable(opened, self._lexicon, self._clock(), self.opened.profiles)
        for missing in set(opened.refused) - set(self.opened.refused):
            _log.warning("profile refused silo=%s: %s", missing.silo, missing.detail)
        self.opened = opened
        try:
            await asyncio.to_thread(self._router.follow, opened.profiles)
            probes = await asyncio.to_thread(self._router.unprobed)
        except Exception as error:  # noqa: BLE001 - a router that cannot learn still chooses
            _log.warning("nothing learnt of the profiles: %s", type(error).__name__)
            return
        await self._probe(probes)

    async def _probe(self, probes: Sequence[Probe]) -> None:
        """Hold new profiles to their word; phase 1 alone, so that no passage leaves."""
        now, sealing = asyncio.get_running_loop().time(), self.sealing()
        due = [
            probe
            for probe in probes
            # A probe compares claimed scores, and sealed questions have none to compare.
            if now >= self._probe_after.get(probe.silo, 0.0) and sealing.get(probe.silo) != "all"
        ]
        turns = asyncio.Semaphore(PROBES_AT_ONCE)
        await asyncio.gather(*(self._probe_one(probe, turns) for probe in due))

    async def _probe_one(self, probe: Probe, turns: asyncio.Semaphore) -> None:
        pause_s = UNANSWERED_PAUSE_S
        try:
            async with turns:
                claims = [await self._claims(probe, vector) for vector in probe.vectors]
            await asyncio.to_thread(self._router.probed, probe, claims)
            pause_s = PROBE_PAUSE_S
        except SiloquyError as error:
            _log.info("not probed silo=%s code=%s", probe.silo, error.code)
        except Exception as error:  # noqa: BLE001 - a silo that cannot be judged is asked as before
            _log.warning("not probed silo=%s: %s", probe.silo, type(error).__name__)
        self._probe_after[probe.silo] = asyncio.get_running_loop().time() + pause_s

    async def _claims(self, probe: Probe, vector: Vector) -> tuple[float, ...]:
        """The cosines that a silo claims for its nearest passages; raises when it says nothing."""
        request = SearchRequest(
            vector=vector,
            terms=(),
            k=PROBE_K,
            unit="passage",
            depth=PROBE_K,
            purpose=AUDIT_PURPOSE,
            requester="router",
        )
        won = await self._phases.search(request, [probe.silo], PROBE_TIMEOUT_S)
        if won.missing:
            raise Unreachable(f"{probe.silo} did not answer a probe: {won.missing[0].reason}")
        held = won.tickets.get(probe.silo)
        return held[1].claims if held else ()
