"""A whole federation on this machine: real processes over the production channels.

For the demo, the benchmarks and the end-to-end tests. Every node has its own folder, keys and
process; only the ingest is done for all silos by one child, so that the encoder loads once.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from siloquy.database import connect
from siloquy.errors import SettingsError, SiloquyError, Unreachable, UsageError, from_code
from siloquy.ports import Embedder
from siloquy.process import EXIT_WITH_PARENT, now_ms
from siloquy.serve import nodes
from siloquy.settings import (
    ApiSettings,
    AskSettings,
    EncoderSettings,
    GatewaySettings,
    HubLink,
    HubSettings,
    Listen,
    ProfileSettings,
    ReleasePolicy,
    SiloSettings,
)
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.ingest import IngestReport, ingest
from siloquy.silo_node.profiler import describe
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.store import Store
from siloquy.text import topics
from siloquy.text.embed import embedder, encoder_spec, model_folder
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import ROSTER_FILE, SignedRoster
from siloquy.types import NodeId
from siloquy.watch import capture as captures

HUB, GATEWAY = NodeId("hub"), NodeId("gateway")
MOST_FOUNDERS = 3
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class SiloContent:
    """What a silo ingests: a folder, or the records of a BEIR corpus with that ``source``."""

    silo: NodeId
    path: Path
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the nodes of a local federation lie and listen."""

    folder: Path
    silos: tuple[NodeId, ...]
    hub_port: int
    gateway_port: int

    def of(self, node: NodeId) -> Path:
        """A node's folder."""
        return self.folder / node

    @property
    def gateway_url(self) -> str:
        """The gateway's HTTP address."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Every node, hub first."""
        return (HUB, *self.silos, GATEWAY)


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def create(
    folder: Path,
    silos: Sequence[NodeId],
    *,
    cache: Path | None = None,
    policy: ReleasePolicy | None = None,
    profile: ProfileSettings | None = None,
    ask: AskSettings | None = None,
    api: ApiSettings | None = None,
    question_cache: Path | None = None,
    federation: str = "demo",
) -> Layout:
    """Make all nodes and found their federation: the first silos found it, a majority signs.

    question_cache   where the gateway keeps vectors of what it is asked; None for nowhere
    """
    layout = Layout(folder, tuple(silos), free_port(), free_port())
    encoder = EncoderSettings(cache=str(cache) if cache else "")
    url = f"wss://127.0.0.1:{layout.hub_port}"
    link = HubLink(url, str((layout.of(HUB) / "tls.pem").resolve()))
    policy = replace(policy or ReleasePolicy(), gateways=(GATEWAY,))
    hub_settings = HubSettings(listen=Listen(port=layout.hub_port), url=url)
    hub = nodes.init_hub(layout.of(HUB), HUB, "operator", hub_settings)
    made = [
        nodes.init_silo(
            layout.of(silo),
            silo,
            silo,
            SiloSettings(link, encoder, policy, profile=profile or ProfileSettings()),
        )
        for silo in silos
    ]
    gateway_settings = GatewaySettings(
        hub=link,
        encoder=EncoderSettings(cache=str(question_cache) if question_cache else ""),
        listen=Listen(port=layout.gateway_port),
        ask=ask or AskSettings(),
        api=api or ApiSettings(),
    )
    gateway = nodes.init_gateway(layout.of(GATEWAY), GATEWAY, "clinic", gateway_settings)
    roster = _found(federation, hub, made, gateway, encoder)
    for node in layout.nodes:
        rosters.save(roster, layout.of(node) / ROSTER_FILE)
    return layout


def _found(
    federation: str,
    hub: Identity,
    silos: Sequence[Identity],
    gateway: Identity,
    encoder: EncoderSettings,
) -> SignedRoster:
    founders = silos[:MOST_FOUNDERS]
    cards = [hub.card, *(silo.card for silo in silos), gateway.card]
    threshold = len(founders) // 2 + 1
    roster = rosters.found(
        federation,
        [founder.card for founder in founders],
        threshold,
        encoder_spec(encoder),
        cards,
        now_ms(),
    )
    signed = SignedRoster(roster, {})
    for founder in founders[:threshold]:
        signed = rosters.add_signature(signed, founder)
    return signed


# -- ingest in one child --------------------------------------------------------------------------


def ingest_all(
    layout: Layout, sources: Sequence[SiloContent], told: Callable[[str, IngestReport], None]
) -> dict[NodeId, IngestReport]:
    """Ingest every source in a child process; ``told`` hears of the progress by silo."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    child = context.Process(target=_ingest_child, args=(layout, tuple(sources), far), daemon=True)
    child.start()
    far.close()
    done: dict[NodeId, IngestReport] = {}
    try:
        while True:
            name, report = near.recv()
            if isinstance(report, SiloquyError):
                raise report
            told(name, report)
            done[NodeId(name)] = report
    except EOFError:
        child.join()
    finally:
        if child.is_alive():
            child.terminate()
    if child.exitcode:
        raise SiloquyError(f"the ingest process ended with code {child.exitcode}")
    return done


def _ingest_child(layout: Layout, sources: Sequence[SiloContent], pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from siloquy import settings as settings_files

    first = settings_files.read(SiloSettings, layout.of(layout.silos[0]))
    encoder = embedder(first.encoder, layout.folder)
    tokens = load_tokens(model_folder(first.encoder) / "tokenizer.json")
    for source in sources:
        store = Store(layout.of(source.silo) / "silo.sqlite")
        inputs = read(source.path, source.only)
        before = encoder.computed, encoder.compute_s

        def tell(report: IngestReport, name: NodeId = source.silo, before: Any = before) -> None:
            embedded, encoder_s = encoder.computed - before[0], encoder.compute_s - before[1]
            pipe.send((name, replace(report, embedded=embedded, encoder_s=encoder_s)))

        tell(ingest(store, inputs, encoder, tokens, first.index.chunk_tokens, tell))
        describe(store, encoder, first.profile, now_ms)
        store.close()
    _keep_topics(layout, encoder)


def _keep_topics(layout: Layout, encoder: Embedder) -> None:
    """Give the gateway the topics' vectors, so that it starts without encoding them."""
    connection = connect(layout.of(GATEWAY) / topics.TOPICS_FILE, topics.SCHEMA)
    topics.prepare(connection, encoder)
    connection.close()


# -- processes ------------------------------------------------------------------------------------


class Processes:
    """The running nodes of a layout; with ``capture`` each records there what it hears and says."""

    def __init__(self, layout: Layout, capture: Path | None = None) -> None:
        self.layout = layout
        self._capture = {captures.ENVIRONMENT: str(capture)} if capture else {}
        self.running: dict[NodeId, subprocess.Popen[bytes]] = {}

    def start(self, node: NodeId) -> None:
        """Start one node; its log goes to ``log/<node>.log``."""
        role = {HUB: "hub", GATEWAY: "gateway"}.get(node, "silo")
        log = self._log(node)
        log.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "siloquy", role, "serve"]
        with log.open("ab") as output:
            self.running[node] = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, "--folder", str(self.layout.of(node))],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **self._capture,
                    EXIT_WITH_PARENT: str(os.getpid()),
                    "OMP_NUM_THREADS": _threads(role),
                },
                start_new_session=True,
            )

    def dead(self) -> list[NodeId]:
        """Nodes whose process has ended."""
        return [node for node, process in self.running.items() if process.poll() is not None]

    def stop(self, *nodes: NodeId) -> None:
        """End these nodes, or all: SIGTERM, then SIGKILL after five seconds."""
        ending = [self.running[node] for node in nodes or self.running]
        for process in ending:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in ending:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the gateway knows every silo's profile; Unreachable names who is missing."""
        deadline = time.monotonic() + timeout_s
        missing: set[str] = set(self.layout.silos)
        while missing:
            self._check_alive()
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"not ready after {timeout_s:.0f} s: {', '.join(sorted(missing))}",
                    f"read the logs in {self.layout.folder / 'log'}",
                )
            time.sleep(0.2)
            try:
                status = get(f"{self.layout.gateway_url}/v1/status", 2.0)
                missing = {silo for silo in self.layout.silos if silo not in status["profiled"]}
                if not status["ready"]:
                    missing.add(GATEWAY)
            except SiloquyError:
                continue

    def _check_alive(self) -> None:
        dead = self.dead()
        if dead:
            raise SiloquyError(self.obituary(dead[0]))

    def obituary(self, node: NodeId) -> str:
        """How a node's process ended: the signal, or its exit code and last words."""
        code = self.running[node].returncode
        if code < 0:
            return f"{node} was killed by {signal.Signals(-code).name}"
        lines = (self._log(node).read_text(errors="replace")).strip().splitlines()
        return f"{node} ended with code {code}: {lines[-1] if lines else 'no log'}"

    def _log(self, node: NodeId) -> Path:
        return self.layout.folder / "log" / f"{node}.log"


def _threads(role: str) -> str:
    return str(os.cpu_count() or 1) if role == "gateway" else "1"


@contextmanager
def running(layout: Layout, capture: Path | None = None) -> Iterator[Processes]:
    """All nodes started and ready; stopped at the end whatever happens."""
    processes = Processes(layout, capture)
    try:
        for node in layout.nodes:
            processes.start(node)
        processes.wait_ready()
        yield processes
    finally:
        processes.stop()


# -- talking to a gateway -------------------------------------------------------------------------


def get(url: str, timeout_s: float) -> dict[str, Any]:
    """JSON of a gateway's page."""
    return _exchange(_request(url), timeout_s)


def post(url: str, body: dict[str, Any], timeout_s: float, key: str = "") -> dict[str, Any]:
    """JSON reply of a gateway to a JSON body; its errors are raised as they were there.

    ``key`` is an API key; UsageError when it would cross a network in clear.
    """
    return _exchange(_request(url, json.dumps(body).encode(), key), timeout_s)


def _request(url: str, body: bytes | None = None, key: str = "") -> urllib.request.Request:
    headers = {"Content-Type": "application/json"} if body else {}
    if key:
        _check_carries(url, key)
        headers["Authorization"] = f"Bearer {key}"
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is no gateway's address", "write http://HOST:PORT")
    return urllib.request.Request(url, body, headers)  # noqa: S310 - http or https


def _check_carries(url: str, key: str) -> None:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError("the API key holds a character that no key has", "see SILOQUY_API_KEY")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError("an API key is not sent to another machine in clear", "write https://")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes no redirect: a key must not follow one to another place."""

    def redirect_request(self, *arguments: Any) -> None:
        """Nothing: the redirect itself is the reply."""


def _exchange(request: urllib.request.Request, timeout_s: float) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            data: dict[str, Any] = json.load(reply)
            return data
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(
            f"no gateway at {request.host}: {type(error).__name__}",
            "start one with `siloquy gateway serve` or `siloquy demo`",
        ) from None


def _refused(error: urllib.error.HTTPError) -> SiloquyError:
    try:
        told = json.load(error)["error"]
        return from_code(told["code"], told["message"], told["hint"])
    except (ValueError, KeyError, TypeError):
        return Unreachable(f"the gateway answered {error.code}")


def beir_silos(corpus: Path) -> tuple[str, ...]:
    """The values of ``source`` in a BEIR corpus, sorted; each becomes a silo."""
    import gzip

    path = next(
        (corpus / n for n in ("corpus.jsonl.gz", "corpus.jsonl") if (corpus / n).exists()), None
    )
    if path is None:
        raise SettingsError(f"{corpus} holds no corpus.jsonl", "give a folder in BEIR layout")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        found = {str(json.loads(line).get("source", "")) for line in lines if line.strip()}
    if "" in found:
        raise SettingsError(f"{path}: a record has no source", "its source names the silo")
    return tuple(sorted(found))


def silo_name(source: str) -> NodeId:
    """A BEIR source as a node name."""
    cleaned = "".join(c if c.isalnum() or c in "._-" else "-" for c in source.lower())
    return identities.check_name(cleaned.strip("._-")[:63])
