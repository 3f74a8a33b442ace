"""``siloquy bench routing``: which router asks the fewest silos for the same evidence.

All routers in one run: the same encoder, passages, split and questions. What is kept is the share
of the central ten best that the asked silos hold; recall of relevant documents is beside it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from siloquy.codec import encode
from siloquy.errors import UsageError
from siloquy.eval import beir, metrics
from siloquy.eval.attacks import routing as routing_attacks
from siloquy.eval.manifest import manifest
from siloquy.eval.routing import (
    labels as routing_labels,
)
from siloquy.eval.routing import measures
from siloquy.eval.routing import (
    rows as routing_rows,
)
from siloquy.eval.routing import (
    tracks as routing_tracks,
)
from siloquy.eval.routing.routers import OURS, ROUTERS, Trial, atlas_of
from siloquy.eval.routing.rows import RowWriter
from siloquy.eval.scene import DEPTH, Floats, K, Scene, build
from siloquy.serve import demo
from siloquy.types import (
    DocumentTag,
    Handle,
    Hit,
    NodeId,
    Profile,
    Progress,
    QueryId,
    SearchReply,
    SearchRequest,
)

LABELS = ("ragroute", "feb4rag")
LABEL_SEEDS = 5
TRACKS = ("normal", "silos", "promises", "attacks", "cost")
OURS_PLAIN = f"{OURS}, no noise"
PROXIES = (10, 50, 100, 200)
LIARS = (1, 3)
Scores = Mapping[str, Sequence[Floats]]
"""By router, for each trial: (n, S)."""


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """One benchmark run.

    corpus    a BEIR folder whose field ``source`` names the silo
    traffic   a BEIR folder whose questions are asked too, for promises and learning; none of its
              documents
    """

    corpus: Path
    out: Path
    tracks: tuple[str, ...] = TRACKS
    split: str = "test"
    limit: int | None = None
    seeds: int = 3
    seed: int = 0
    traffic: Path | None = None
    cache: Path | None = None


def run(config: RoutingConfig, told: Progress) -> dict[str, Any]:
    """Run the tracks, write manifest, rows and plots to ``config.out``, give back the results."""
    if config.out.exists() and any(config.out.iterdir()):
        raise UsageError(f"{config.out} is not empty", "name a new folder with --out")
    config.out.mkdir(parents=True, exist_ok=True)
    cache = config.cache or demo.cache_file()
    with tempfile.TemporaryDirectory(prefix="siloquy-routing-") as folder:
        scene = build(
            config.corpus,
            Path(folder),
            cache,
            told,
            split=config.split,
            limit=config.limit,
            seed=config.seed,
            traffic=config.traffic,
        )
    return measure(config, scene, told)


def measure(config: RoutingConfig, scene: Scene, told: Progress) -> dict[str, Any]:
    """The tracks over a scene that was built."""
    results: dict[str, Any] = {
        "corpus": config.corpus.name,
        "silos": len(scene.sites),
        "passages": int(scene.sizes.sum()),
        "questions": scene.judged,
        "other_questions": len(scene.asked.ids) - scene.judged,
    }
    trials = [_trial(scene, config.seed + i) for i in range(config.seeds)]
    note = routing_rows.Notes(scene.asked.ids)
    rows: list[dict[str, Any]] = []
    if "normal" in config.tracks:
        scores = _scores(trials, told)
        rows = routing_rows.of_routers(trials, scores)
        results["normal"] = _normal(trials, scores)
        results["differences"] = _differences(trials, scores, config.seed)
    plain = atlas_of(scene, inf)
    profiles = list(plain.profiles)
    if "silos" in config.tracks:
        told("silos that join, leave, change and fall silent")
        results["silos_tracks"] = _silos(trials, profiles, note)
    if "promises" in config.tracks:
        told("promised coverage")
        results["promises"] = [
            asdict(item) for item in routing_tracks.promises(scene, plain, config.seed, note)
        ]
        results["drift"] = [
            asdict(item)
            for trial in trials
            for item in routing_tracks.drifts(scene, plain, trial.seed, 0.95, note)
        ]
    if "attacks" in config.tracks:
        results["attacks"] = _attacks(scene, trials, profiles, told, note)
        most = trials[0].test[: routing_attacks.STREAM]
        results["inflated"] = asdict(routing_attacks.inflated(scene, profiles, most, note))
    if "cost" in config.tracks:
        told("time and bytes")
        results["milliseconds"] = dict(routing_tracks.milliseconds(scene, profiles, note))
        results["profile_bytes"] = max(len(encode(profile)) for profile in profiles)
        if "normal" in results:
            results["bytes"] = _bytes(scene, results["normal"])
    _write(config, results, scene, rows, note.rows)
    return results


def _trial(scene: Scene, seed: int) -> Trial:
    """Half of the corpus' own questions to learn from, half to measure on."""
    order = np.random.default_rng(seed).permutation(scene.judged)
    half = scene.judged // 2
    return Trial(scene, order[:half], order[half:], seed)


# -- normal ---------------------------------------------------------------------------------------


def _scores(trials: Sequence[Trial], told: Progress) -> Scores:
    """Scores of each router in each trial."""
    found: dict[str, list[Floats]] = {}
    for name, router in ROUTERS.items():
        for trial in trials:
            told(f"router {name}")
            scores = np.asarray(router(trial), dtype=np.float64)
            # Ties are broken by chance, for all routers alike.
            scores = scores + 1e-12 * np.random.default_rng(trial.seed).random(scores.shape)
            found.setdefault(name, []).append(scores)
    return found


def _normal(trials: Sequence[Trial], scores: Scores) -> dict[str, Any]:
    results = {}
    for name, found in scores.items():
        parts = [_figures(trial, s, name) for trial, s in zip(trials, found, strict=True)]
        figures = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
        results[name] = {key: round(value, 4) for key, value in figures.items()}
    return results


def _figures(trial: Trial, scores: Floats, name: str) -> dict[str, float]:
    """Measures of one router in one trial; ``all`` asks everybody."""
    scene = trial.scene
    held, n = scene.held[trial.test], len(scene.sites)
    offers = [scene.offers[i] for i in trial.test]
    relevant = [scene.asked.relevant[i] for i in trial.test]
    whole = np.nanmean(measures.recall(np.ones_like(held, dtype=bool), offers, relevant))
    figures = {"ndcg@3": float(measures.ndcg(scores, held).mean())}
    for wanted in measures.KEPT:
        silos = n if name == "all" else measures.silos_for(scores, held, wanted)
        figures[f"silos for {wanted:.2f}"] = float(silos)
    for part in measures.PARTS:
        asked = measures.chosen(scores, n if name == "all" else part * n)
        figures[f"kept at {part:.2f}"] = float(measures.kept(asked, held).mean())
        found = np.nanmean(measures.recall(asked, offers, relevant))
        figures[f"recall at {part:.2f}"] = float(found / whole)
        figures[f"all hit at {part:.2f}"] = float(
            np.nanmean(measures.all_hit(asked, relevant, scene.of))
        )
    return figures


def _differences(trials: Sequence[Trial], scores: Scores, seed: int) -> dict[str, dict[str, float]]:
    """Ours without noise minus each other router: share kept at a third of the silos, paired."""
    part = measures.PARTS[0]

    def kept(name: str) -> Floats:
        found = []
        for trial, values in zip(trials, scores[name], strict=True):
            asked = measures.chosen(values, part * len(trial.scene.sites))
            found.append(measures.kept(asked, trial.scene.held[trial.test]))
        return np.concatenate(found)

    mine = kept(OURS_PLAIN)
    return {
        name: asdict(metrics.estimate(list(mine - kept(name)), seed))
        for name in scores
        if name not in (OURS_PLAIN, "all")
    }


# -- the other tracks -----------------------------------------------------------------------------


def _silos(
    trials: Sequence[Trial], profiles: Sequence[Profile], note: RowWriter
) -> dict[str, dict[str, float]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        atlas = atlas_of(trial.scene, inf)
        kept = [
            *routing_tracks.unseen(trial, atlas, note),
            *routing_tracks.removed(trial, profiles, note),
            *routing_tracks.stale(trial, note),
            *routing_tracks.offline(trial, atlas, note),
        ]
        for item in kept:
            found.setdefault(item.name, []).append((item.kept, item.silos))
    return {
        name: {
            "kept": round(float(np.mean([kept for kept, _ in values])), 4),
            "silos": round(float(np.mean([silos for _, silos in values])), 2),
        }
        for name, values in found.items()
    }


def _attacks(
    scene: Scene,
    trials: Sequence[Trial],
    profiles: Sequence[Profile],
    told: Progress,
    note: RowWriter,
) -> list[dict[str, Any]]:
    """Means over the seeds, by router, number of liars and of proxy questions."""
    found: dict[tuple[str, int, int], list[routing_attacks.Hijack]] = {}
    for liars in LIARS:
        for proxies in PROXIES:
            told(f"forged profiles: {liars} of {proxies} questions")
            for trial in trials:
                for one in routing_attacks.forged(
                    scene, profiles, liars, proxies, trial.seed, note
                ):
                    found.setdefault((one.router, liars, proxies), []).append(one)
    return [
        {
            "router": router,
            "liars": liars,
            "proxies": proxies,
            **{
                part: round(float(np.mean([getattr(one, part) for one in ones])), 4)
                for part in ("first", "top3", "kept")
            },
        }
        for (router, liars, proxies), ones in found.items()
    ]


def _bytes(scene: Scene, normal: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Bytes of one question: broadcasting k passages from every silo, and ours at .98 kept.

    Plain messages as they are encoded, without the seals that both would have.
    """
    n = len(scene.sites)
    passage = float(np.mean([site.passage_bytes for site in scene.sites if site.passage_bytes]))
    request = float(np.mean([_request_bytes(scene, i) for i in range(min(len(scene.offers), 50))]))
    hit = Hit(Handle(bytes(16)), DocumentTag(bytes(8)), 0.123456789, 1.23456789)
    offered = round(float(np.mean([len(offer.silos) for offer in scene.offers])) / n)
    reply = len(encode(SearchReply(QueryId(bytes(16)), NodeId("silo"), (hit,) * offered)))
    ours = normal[OURS_PLAIN]["silos for 0.98"]
    broadcast = n * (request + K * passage)
    asked = (1 + ours) * request + ours * reply + K * passage
    return {
        "request": round(request),
        "candidates of a silo": offered,
        "reply without text": round(reply),
        "passage": round(passage),
        "broadcast": round(broadcast),
        "ours": round(asked),
        "saved": round(1 - asked / broadcast, 4),
        "passages saved": round(1 - 1 / n, 4),
    }


def _request_bytes(scene: Scene, i: int) -> int:
    asked = scene.asked
    request = SearchRequest(
        asked.vectors[i], asked.terms[i], K, "passage", DEPTH, "treatment", "local"
    )
    return len(encode(request))


# -- labels ---------------------------------------------------------------------------------------


def run_labels(track: str, data: Path, out: Path, told: Progress) -> dict[str, Any]:
    """A track that needs labels alone; five seeds."""
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", "name a new folder with --out")
    path = (
        data / "mcq" / "mirage_public.jsonl.gz" if track == "ragroute" else data / "feb4rag_routing"
    )
    if not path.exists():
        raise UsageError(f"{path} is missing", "name the folder of public sets with --sets")
    told(f"{track}: all routers, {LABEL_SEEDS} seeds")
    run_ = routing_labels.run_ragroute if track == "ragroute" else routing_labels.run_feb4rag
    outcome = run_(path, range(LABEL_SEEDS))
    out.mkdir(parents=True, exist_ok=True)
    results = {
        "track": track,
        "questions": outcome.questions,
        "sources": list(outcome.sources),
        "rows": [asdict(row) for row in outcome.rows],
        "differences": [asdict(item) for item in outcome.differences],
    }
    routing_rows.write(out / "per_query.jsonl", map(asdict, outcome.scored))
    hashes = routing_labels.file_hashes(path)
    written = manifest({"track": track, "seeds": LABEL_SEEDS}, hashes, 0)
    (out / "manifest.json").write_text(json.dumps(written, indent=1) + "\n")
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


# -- writing --------------------------------------------------------------------------------------


def _write(
    config: RoutingConfig,
    results: dict[str, Any],
    scene: Scene,
    rows: Sequence[dict[str, Any]],
    cases: Sequence[dict[str, Any]],
) -> None:
    from siloquy.eval.routing.report import plot

    settings = {
        key: value.name if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }
    hashes = beir.file_hashes(config.corpus, config.split)
    if config.traffic:
        more = beir.file_hashes(config.traffic, "test")
        hashes |= {f"traffic/{name}": value for name, value in more.items()}
    written = manifest(settings, hashes, config.seed)
    (config.out / "manifest.json").write_text(json.dumps(written, indent=1) + "\n")
    (config.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    routing_rows.write(config.out / "per_query.jsonl", rows)
    routing_rows.write(config.out / "offers.jsonl", routing_rows.of_offers(scene))
    routing_rows.write(config.out / "tracks.jsonl", cases)
    plot(results, rows, config.out)
