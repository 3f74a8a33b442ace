"""The gateway put together: encoder, router, rounds, and who writes its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from siloquy.database import connect
from siloquy.gateway.ask import Gateway, Retriever
from siloquy.gateway.learning import Learning
from siloquy.gateway.phases import Phases
from siloquy.gateway.planning import Planner
from siloquy.gateway.profiles import ProfileBook
from siloquy.gateway.rounds import Rounds
from siloquy.ports import Embedder, Generator, Hub, Phrasing, Router, TextEncoder
from siloquy.router import account
from siloquy.router.experience import ROUTER_FILE, Experience
from siloquy.router.profile import Versions
from siloquy.router.router import LearningRouter
from siloquy.settings import AskSettings, EncoderSettings, GatewaySettings
from siloquy.text import lexicon as lexicons
from siloquy.text import topics as topic_lists
from siloquy.text.batcher import Batcher
from siloquy.text.embed import SentenceEncoder, embedder, encoder_spec, model_folder
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import TOPICS_FILE
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.watch.metrics import GatewayMonitor
from siloquy.watch.observe import MonitoredModel

VERSIONS_FILE = "profiles.sqlite"
HEADS_FILE = "heads.sqlite"


def question_encoder(settings: EncoderSettings, folder: Path) -> Embedder:
    """The encoder: vectors of questions are kept only where the settings name a cache."""
    if settings.cache:
        return embedder(settings, folder)
    return SentenceEncoder(settings, encoder_spec(settings))


def build_gateway(
    folder: Path,
    identity: Identity,
    settings: GatewaySettings,
    pinned: PinnedRoster,
    hub: Hub,
    embedder: Embedder,
    clock: Callable[[], int],
    connected: Callable[[], bool],
    monitor: GatewayMonitor | None = None,
) -> Gateway:
    """The gateway of the node in ``folder``, with the language model that its settings name."""
    ask, encoder, monitor = settings.ask, Batcher(embedder), monitor or GatewayMonitor()
    writers = _writers(folder, settings, encoder, monitor)
    lexicon = lexicons.load(model_folder(settings.encoder))
    retriever = build_retriever(
        identity,
        pinned,
        hub,
        encoder,
        lexicon,
        build_router(folder, embedder, lexicon, ask, clock),
        folder,
        ask,
        clock,
        monitor,
    )
    return Gateway(
        identity,
        pinned,
        retriever,
        encoder,
        writers.phrasing,
        writers.generator,
        ask,
        clock,
        connected,
        writers.load,
        lambda: account.read(folder / ROUTER_FILE, ask, clock()),
    )


def build_retriever(
    identity: Identity,
    pinned: PinnedRoster,
    hub: Hub,
    encoder: Batcher,
    lexicon: Lexicon,
    router: Router,
    folder: Path,
    settings: AskSettings,
    clock: Callable[[], int],
    monitor: GatewayMonitor | None = None,
) -> Retriever:
    """Rounds, plans, profiles and learning around one router; what they keep lies in ``folder``."""
    phases = Phases(identity, pinned, hub, HeadBook(folder / HEADS_FILE), clock)
    versions = Versions(folder / VERSIONS_FILE)
    profiles = ProfileBook(identity, pinned, hub, phases, lexicon, router, versions, clock)
    planner, learning = Planner(identity, pinned, router, profiles, settings), Learning(router)
    rounds = Rounds(planner, phases, encoder, router, learning, settings, clock, monitor)
    return Retriever(rounds, planner, profiles, learning)


def build_router(
    folder: Path,
    embedder: Embedder,
    lexicon: Lexicon,
    settings: AskSettings,
    clock: Callable[[], int],
) -> LearningRouter:
    """The router of the node in ``folder``; encodes the list of topics the first time."""
    connection = connect(folder / TOPICS_FILE, topic_lists.SCHEMA)
    try:
        topics = topic_lists.prepare(connection, embedder)
    finally:
        connection.close()
    return LearningRouter(topics, lexicon, Experience(folder / ROUTER_FILE), settings, clock)


@dataclass(frozen=True, slots=True)
class Writers:
    """Who rewrites questions and who answers; ``load`` does what takes long at the start."""

    phrasing: Phrasing
    generator: Generator
    load: Callable[[], object] = lambda: None


def _writers(
    folder: Path, settings: GatewaySettings, encoder: TextEncoder, monitor: GatewayMonitor
) -> Writers:
    """Rules and quotations, or a language model."""
    from siloquy.generator.extractive import Extractive
    from siloquy.generator.model.models import language_model
    from siloquy.generator.reasoner import Reasoner
    from siloquy.generator.understanding.phrasing import ModelPhrasing, RulePhrasing

    floor, chosen = settings.ask.answer_floor, settings.model
    quoting, rules = Extractive(encoder, floor), RulePhrasing()
    found = language_model(chosen, folder)
    if found is None:
        return Writers(rules, quoting)
    model = MonitoredModel(found, monitor)
    fallback = quoting if chosen.fallback == "extractive" else None
    return Writers(
        ModelPhrasing(model, rules),
        Reasoner(model, chosen.most_tokens, floor, fallback),
        getattr(found, "load", lambda: None),
    )
