"""Values that cross a folder: frozen, typed, the vocabulary of the whole project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType

import numpy as np
from numpy.typing import NDArray

from siloquy.errors import MissingReason

NodeId = NewType("NodeId", str)
"""Name of a node in the roster: a silo, a gateway or the hub."""
QueryId = NewType("QueryId", bytes)
"""16 random bytes, one a question."""
Handle = NewType("Handle", bytes)
"""16 random bytes that name one candidate passage for one question; single-use."""
DocumentTag = NewType("DocumentTag", bytes)
"""8 random bytes: equal for passages of one document within one question, meaningless outside."""
PassageId = NewType("PassageId", str)
DocumentId = NewType("DocumentId", str)

Vector = NDArray[np.float32]
Progress = Callable[[str], None]
"""Is told, in words, how far long work has come."""

Role = Literal["silo", "gateway", "hub"]
SiteRole = Literal["clinician", "silo_admin", "hub_admin", "auditor", "evaluator"]
"""What a person may do at a gateway; ``gateway.api.permissions`` says what each may call."""
Mode = Literal["open", "sealed"]
Unit = Literal["passage", "document"]
Sealing = Literal["none", "able", "some", "all"]
"""A silo and sealed questions: it cannot score them, it can, it wants them for some of its
collections, it wants them for all."""
Rule = Literal["cap", "budget", "consent", "sealed", "deleted", "padding"]
"""Why a silo holds a winner back; metrics count by it."""
PrivacyUnit = Literal["document", "patient"]
"""Whose addition or removal a noised profile hides."""
Intent = Literal["precise", "diverse", "fast"]
"""What silos are chosen for: the promised share of the best passages; several hospitals' view
beside it; few silos that answer quickly."""


# -- who ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The one text encoder of a federation; vectors of another cannot be compared.

    ``sha256`` is the hex hash of the weights file.
    """

    name: str
    sha256: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Member:
    """One node's public card: its keys, role and organisation.

    signing_key   32 bytes  Ed25519, the identity
    sealing_key   32 bytes  X25519, what envelopes are sealed to
    proof         64 bytes  the card without ``proof``, signed by ``signing_key``
    """

    node: NodeId
    role: Role
    organisation: str
    signing_key: bytes
    sealing_key: bytes
    proof: bytes = b""


@dataclass(frozen=True, slots=True)
class Roster:
    """Who belongs: signed by at least ``threshold`` of the ``founders``, pinned by every node.

    founders   Ed25519 keys, 32 bytes each; fixed from version 1 on
    previous   SHA-256 of the version before, empty in version 1
    """

    federation: str
    version: int
    created: int
    threshold: int
    founders: tuple[bytes, ...]
    encoder: EncoderSpec
    members: tuple[Member, ...]
    previous: bytes = b""


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """Encoded bytes and the Ed25519 signature of ``signer`` over them."""

    signer: NodeId
    body: bytes
    signature: bytes


# -- asking ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """A clinician's question as the gateway got it; ``text`` never leaves the gateway in clear."""

    text: str
    purpose: str = "treatment"
    requester: str = "local"


@dataclass(frozen=True, slots=True)
class Term:
    """One query word, lower case, and what a match of it is worth, at least 0."""

    word: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class SearchRequest:
    """What a chosen silo reads of a question in open mode.

    vector   (d,) float32, unit length
    terms    query words, each once, weighted alike for all silos
    depth    candidates wanted from each of the dense and the lexical ranking, at least k
    """

    vector: Vector
    terms: tuple[Term, ...]
    k: int
    unit: Unit
    depth: int
    purpose: str
    requester: str


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The hub's public key of one session, made and opened by it alone.

    public             packed, ``sealed_wire.CIPHERTEXT_BYTES``
    created, expires   Unix milliseconds
    """

    public: bytes
    created: int
    expires: int


@dataclass(frozen=True, slots=True)
class SealedRequest:
    """What a chosen silo reads of a question in sealed mode: nothing of what it asks.

    key         the hub's signed SealingKey; the envelope's header names its hash
    query       the encrypted vector, packed (``siloquy.sealed.scoring``)
    dimension   numbers of the vector
    offset      what every silo adds to its scores: the hub, which opens them, does not know it
    """

    key: SignedMessage
    query: bytes
    dimension: int
    offset: int
    k: int
    purpose: str
    requester: str


@dataclass(frozen=True, slots=True)
class SealedScores:
    """Scores of all of a silo's rows in fresh order, padding among them; the hub alone opens them.

    scores       packed (``siloquy.sealed.scoring``), of the size class of the silo
    handle_key   32 bytes that name the rows (``siloquy.sealed.handles``)
    """

    scores: bytes
    handle_key: bytes


@dataclass(frozen=True, slots=True)
class Hit:
    """One candidate, before its text may be seen.

    dense     cosine similarity in [-1, 1]
    lexical   BM25 under the question's term weights, at least 0
    """

    handle: Handle
    tag: DocumentTag
    dense: float
    lexical: float


@dataclass(frozen=True, slots=True)
class Missing:
    """A chosen silo that did not take part, and why."""

    silo: NodeId
    reason: MissingReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SearchReply:
    """A silo's signed phase-1 answer: candidates without text, or sealed scores, or its refusal."""

    query_id: QueryId
    silo: NodeId
    hits: tuple[Hit, ...]
    refusal: Missing | None = None
    sealed: SealedScores | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """The hub's word that these handles of ``silo`` are among the global winners.

    claims    the cosine that each handle won with, as the silo offered it; none in sealed mode
    lexical   the BM25 that it won with; none in sealed mode
    """

    query_id: QueryId
    gateway: NodeId
    silo: NodeId
    handles: tuple[Handle, ...]
    claims: tuple[float, ...]
    lexical: tuple[float, ...]
    k: int
    expires: int


@dataclass(frozen=True, slots=True)
class Winner:
    """One of the global top-k: where it lies, under which handle; order is the rank."""

    silo: NodeId
    handle: Handle


@dataclass(frozen=True, slots=True)
class MergeReply:
    """The hub's answer to one question: winners best first, a ticket for each silo that has any.

    ``refusals`` are the silos' own signed SearchReply; ``silence`` is the hub's word about silos
    that it could not hear. No score is in it. ``traffic`` counts bytes by link, ``silo_ms`` the
    time until each silo's reply.
    """

    query_id: QueryId
    winners: tuple[Winner, ...]
    tickets: tuple[SignedMessage, ...]
    refusals: tuple[SignedMessage, ...]
    silence: tuple[Missing, ...]
    silo_ms: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)


# -- releasing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Phase 2: the gateway asks one silo for its winners."""

    ticket: SignedMessage
    handles: tuple[Handle, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A released piece of a document. Only ``silo_node/release.py`` constructs it.

    start, end        character offsets in the document's text
    dense, lexical    what the silo claimed in phase 1; None in sealed mode, where it knows neither
    section           the heading above its start and those within it, joined by " / ", at most 200
                      characters; empty: none is known
    dated             of the document: ISO date, year and month, or year; empty: not known
    """

    handle: Handle
    silo: NodeId
    id: PassageId
    document: DocumentId
    title: str
    text: str
    start: int
    end: int
    dense: float | None
    lexical: float | None
    section: str = ""
    dated: str = ""


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """Where a silo's ledger stands: ``hash`` covers entries 1 to ``entries``."""

    silo: NodeId
    entries: int
    hash: bytes
    created: int


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """Passages that left the silo, how many winners it held back, and its signed ledger head."""

    query_id: QueryId
    silo: NodeId
    passages: tuple[Passage, ...]
    withheld: int
    head: SignedMessage


# -- routing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Profile:
    """What a silo tells approved gateways about its content, at most 32 KB.

    Where ``epsilon`` is a number, all that follows it is noised: differentially private for one
    document or patient, whichever the silo has chosen, at (epsilon, delta). None: as it is.

    version      monotone; a gateway refuses an older one
    anchors      hash of the topic list and encoder that ``topics`` is about
                 (``siloquy.text.topics``)
    size         passages that can be found
    topics       (topics,) float16: how much of the content lies near each public topic, in
                 documents; empty for a silo that tells its size alone
    topic_noise  standard deviation of the noise in each of them
    counts       passages of each of m cells, at most 16
    noises       standard deviation, along any direction, of the noise in each cell's mean
    centroids    m * d int8: the cells' means, scaled by 127
    spreads      mean squared distance of each cell's passages to its mean
    rank         directions told of each cell, the same for all
    directions   m * rank * d / 2 bytes: unit vectors of most spread, 4 bits a coordinate
    variances    m * rank: mean squared distance along each direction
    frequencies  in how many passages each word of the encoder's public vocabulary stands, one
                 log-scaled byte a word, deflated (``siloquy.text.lexicon``); empty where noised
    sealing      whether the silo scores sealed questions, and what it wants them for
    """

    silo: NodeId
    version: int
    created: int
    expires: int
    encoder: EncoderSpec
    anchors: str
    epsilon: float | None
    delta: float
    unit: PrivacyUnit
    size: int
    topics: bytes
    topic_noise: float
    counts: tuple[float, ...]
    noises: tuple[float, ...]
    centroids: bytes
    spreads: tuple[float, ...]
    rank: int
    directions: bytes
    variances: tuple[float, ...]
    frequencies: bytes
    sealing: Sealing = "none"


@dataclass(frozen=True, slots=True, eq=False)
class RouteRequest:
    """A question as the router sees it.

    vector   (d,) float32, unit length
    words    every word of the question, lower case, in order
    silos    those of the roster
    """

    vector: Vector
    words: tuple[str, ...]
    k: int
    intent: Intent
    silos: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which silos are asked, which not and why.

    coverage   promised share of the global top-k in [0, 1], on average over questions; None while
               nothing calibrates it
    intent     what the choice was made for
    audit      whether all silos were asked to check the promise
    notes      what the reader must know of the choice, such as that it was widened
    """

    mode: Mode
    asked: tuple[NodeId, ...]
    skipped: tuple[NodeId, ...]
    reasons: dict[str, str]
    coverage: float | None = None
    intent: Intent = "precise"
    audit: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SearchFeedback:
    """What came of a question's search, as far as the router learns of it.

    words     every word of the question, in order
    winners   how many of the best each asked silo held, 0 included; not of silos that are missing
    """

    vector: Vector
    words: tuple[str, ...]
    plan: Plan
    winners: dict[NodeId, int]
    missing: tuple[Missing, ...]
    silo_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Questions that a new profile must answer for.

    vectors    (n, d) unit length
    expected   the least median of the best claimed cosines that an honest silo would come to
    """

    silo: NodeId
    vectors: Vector
    expected: tuple[float, ...]


# -- answering ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """A passage shown to the reader; ``n`` is its citation number, from 1.

    score            the gateway's own cosine similarity to the question
    section, dated   as in ``Passage``
    """

    n: int
    silo: NodeId
    document: DocumentId
    title: str
    text: str
    start: int
    end: int
    score: float
    section: str = ""
    dated: str = ""


@dataclass(frozen=True, slots=True)
class CitedSpan:
    """A stretch of source ``n``: ``start`` and ``end`` are character offsets in its ``text``."""

    n: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an answer with the sources that carry it.

    support   how well they do, in [0, 1]
    spans     where they say it, one for each citation
    """

    text: str
    citations: tuple[int, ...]
    support: float
    spans: tuple[CitedSpan, ...] = ()


ConflictKind = Literal["disagreement", "stale", "dose", "population"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that the reader must weigh: passages that differ, or do not fit the question.

    sides    the passages side by side: two that differ, or one that does not fit the question
    detail   what differs, in words for a clinician
    """

    kind: ConflictKind
    sides: tuple[CitedSpan, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What the generator says: checked sentences, or an abstention with its reason.

    extractive   whether every sentence is a quotation
    dropped      sentences of a draft that no cited passage carries
    notes        what the reader must know of how it was made, such as a model that did not answer
    model        who wrote it; empty for the generator's own name
    """

    sentences: tuple[Sentence, ...]
    abstained: bool
    reason: str = ""
    extractive: bool = False
    dropped: int = 0
    notes: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a conversation, as it was understood, and the answer's text."""

    question: str
    answer: str


RoundKind = Literal["question", "part", "wider"]


@dataclass(frozen=True, slots=True)
class Round:
    """One retrieval for a question: the question itself, a part of it, or silos not asked before.

    query_id   hex, as the silos' ledgers name it
    """

    kind: RoundKind
    question: str
    query_id: str
    asked: tuple[NodeId, ...]
    released: dict[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole of what the person who asked gets; see docs/answer.schema.json.

    question      as it was understood: a follow-up is written out
    extractive    whether every sentence is a quotation
    suggestions   at most three questions that the released passages answer; no receipt covers them
    """

    question: str
    answer: str
    abstained: bool
    sentences: tuple[Sentence, ...]
    sources: tuple[Source, ...]
    plan: Plan
    missing: tuple[Missing, ...]
    withheld: dict[str, int]
    released: dict[str, int]
    flagged: dict[str, str]
    rounds: tuple[Round, ...]
    conflicts: tuple[Conflict, ...]
    dropped: int
    notes: tuple[str, ...]
    mode: Mode
    model: str
    extractive: bool
    timings_ms: dict[str, float]
    receipt: dict[str, object]
    suggestions: tuple[str, ...] = ()


# -- watching -------------------------------------------------------------------------------------

SiloState = Literal["asked", "answered", "missing", "released"]


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """A round begins: what is looked for and which silos are asked."""

    kind: RoundKind
    question: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class SiloEvent:
    """How it goes with one silo; ``passages`` are what it has released in this round."""

    silo: NodeId
    state: SiloState
    ms: float = 0.0
    passages: int = 0
    detail: str = ""


Event = PlanEvent | SiloEvent | Source | Sentence | Answer
"""What a question's way shows while it runs; a source comes before the sentence that cites it."""
