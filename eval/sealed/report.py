"""``report.md`` of ``siloquy bench sealed``: its summaries as tables that can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from siloquy.eval.sealed import plots

Summary = dict[str, Any]

LATENCY = ("embed", "route", "seal", "search", "release", "rescore")


def write(results: Summary, manifest: Summary, out: Path) -> None:
    """``report.md`` in ``out``, with its plots beside it."""
    text = markdown(results, manifest, plots.draw(results, out))
    (out / "report.md").write_text(text, encoding="utf-8")


def markdown(results: Summary, manifest: Summary, images: Sequence[str]) -> str:
    """The whole report; sections of parts that were not run are left out."""
    parts = ["# Sealed scoring, measured", _machine(manifest)]
    if "scoring" in results:
        parts += scoring(results["scoring"])
    if "embeddings" in results:
        parts += embeddings(results["corpus"], results["embeddings"])
    if "attacks" in results:
        parts += attacks(results["corpus"], results["attacks"])
    if "federation" in results:
        parts += federation(results["corpus"], results["federation"])
    parts += [f"![{name.partition('.')[0]}]({name})" for name in images]
    return "\n\n".join(parts) + "\n"


def _machine(manifest: Summary) -> str:
    hardware, packages = manifest["hardware"], manifest["packages"]
    before = ", ".join(map(str, manifest["load_average_before"]))
    after = ", ".join(map(str, hardware["load_average"]))
    return (
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gb']} GB; Python "
        f"{manifest['python']}, TenSEAL {packages['tenseal']}, FAISS {packages['faiss-cpu']}; "
        f"siloquy {manifest['siloquy']} at {manifest['commit']}, {manifest['created']}, seed "
        f"{manifest['seed']}. Load averages before: {before}; after: {after}."
    )


# -- scoring --------------------------------------------------------------------------------------


def scoring(points: Sequence[Summary]) -> list[str]:
    """Tables of part scoring."""
    return [
        "## Scoring",
        "Synthetic unit vectors, all ways on the same rows in one process. Medians; one thread.",
        "### Time beside the baselines",
        _table(
            "rows x d | FAISS Flat | sealed, one core | same, zeros ahead | as a silo serves | "
            "TenSEAL matmul | TenSEAL dot | x FAISS | matmul / one core, / as served | "
            "dot / one core, / as served | load",
            [_beside(point) for point in points],
        ),
        "Milliseconds a question. *Sealed*: opening the query, scoring, re-randomising with "
        "zeros made on the spot, flooding and packing. *As a silo serves*: its own index, zeros "
        "ahead, from 8,192 rows on with the machine's other cores. x FAISS is of one core. `dot` "
        "was "
        "measured on 8 rows after 2 to warm up and `matmul` in one call as wide as it may be, "
        "each with one thread and with all, the quicker kept; both are **extrapolated** to all "
        "rows. `matmul` costs nearly the same however few columns it gets, and beyond 4,096 - d "
        "of them its numbers are silently wrong.",
        "### Each stage",
        _table(
            "rows x d | by | session key | encrypt | open query | repack | prepare all | zeros | "
            "score, zeros ahead | score | whole reply | open scores",
            [row for point in points for row in _stages(point)],
        ),
        "Milliseconds, medians, by the clock and of CPU: where the two differ, other work had the "
        "machine. *Score* packs too. *Whole reply*: from a silo's own index that was made ready "
        "before, as silos do between questions; it opens the query and scores, zeros ahead.",
        "### Bytes and memory",
        _table(
            "rows x d | blocks | up | down | dot: up, keys, down | matmul: down | memory | a row",
            [_bytes_of(point) for point in points],
        ),
        "### What is found",
        _table(
            "rows x d | scores compared | wrong | largest error | recall@10 against float | "
            "dot's error | matmul's error",
            [_found(point) for point in points],
        ),
        "### A prepared block of 256 rows from disk",
        _table(
            "d | prepare | SEAL writes | SEAL reads | bytes",
            [_block(point) for point in _one_a_dimension(points)],
        ),
        "Milliseconds; files in the page cache, so a disk only adds to it. Rows get fresh places "
        "after a question or a few, and files written before are worth nothing then: at best they "
        "save a restarted silo the difference of reading and preparing, once.",
    ]


def _beside(point: Summary) -> tuple[str, ...]:
    load = " to ".join(f"{value:.1f}" for value in point["load_average"])
    return (
        _size(point),
        *(_ms(point[key]) for key in ("faiss_ms", "silo_ms", "silo_ahead_ms")),
        _ms(point["ms"]["reply"]),
        _ms(point["matmul_ms"]),
        _ms(point["dot_ms"]),
        _times(point["times_faiss"]),
        *(
            f"{_times(point[f'{what}_over_sealed'])}, {_times(point[f'{what}_over_served'])}"
            for what in ("matmul", "dot")
        ),
        load,
    )


def _stages(point: Summary) -> list[tuple[str, ...]]:
    return [
        (_size(point), name, *(_ms(value) for value in point[key].values()))
        for name, key in (("clock", "ms"), ("CPU", "cpu_ms"))
    ]


def _bytes_of(point: Summary) -> tuple[str, ...]:
    dot = ("ckks_up_bytes", "ckks_key_bytes", "dot_down_bytes")
    return (
        _size(point),
        str(point["blocks"]),
        _mb(point["up_bytes"]),
        _mb(point["down_bytes"]),
        ", ".join(_mb(point[key]) for key in dot),
        _mb(point["matmul_down_bytes"]) if point["matmul_ms"] else "does not fit",
        _mb(point["memory_bytes"]),
        f"{point['memory_bytes_a_row']:,.0f} B",
    )


def _found(point: Summary) -> tuple[str, ...]:
    return (
        _size(point),
        f"{point['scores_compared']:,}",
        str(point["scores_wrong"]),
        f"{point['error_most']:.1e}",
        _interval(point["recall@10"]),
        f"{point['dot_error']:.0e}",
        f"{point['matmul_error']:.0e}" if point["matmul_ms"] else "does not fit",
    )


def _block(point: Summary) -> tuple[str, ...]:
    block = point["block"]
    times = (_ms(block[f"block_{name}_ms"]) for name in ("prepare", "save", "load"))
    return (str(point["d"]), *times, f"{block['file_bytes']:,}")


def _one_a_dimension(points: Sequence[Summary]) -> list[Summary]:
    return list({point["d"]: point for point in points}.values())


def _size(point: Summary) -> str:
    return f"{point['n']:,} x {point['d']}"


# -- embeddings -----------------------------------------------------------------------------------


def embeddings(corpus: str, found: Summary) -> list[str]:
    """Table of part embeddings."""
    rows = [
        ("recall@10, all passages", _interval(found["recall@10_whole"])),
        ("the same at the smallest scale", _interval(found["recall@10_coarsest"])),
        ("recall@10, merged from the silos' best", _interval(found["recall@10_federation"])),
        ("questions whose ten are all kept", f"{found['questions_with_all_ten']:,}"),
        ("largest error of a score", f"{found['error_most']:.1e}"),
        ("questions really encrypted", str(found["encrypted_questions"])),
        ("scores opened and compared", f"{found['scores_compared']:,}"),
        ("of these wrong", str(found["scores_wrong"])),
    ]
    return [
        f"## Embeddings of {corpus}",
        f"{found['questions']:,} questions, {found['passages']:,} passages of {found['silos']} "
        "silos; integer scores against float cosines, 95 % bootstrap intervals over questions.",
        _table("measure | value", rows),
    ]


# -- attacks --------------------------------------------------------------------------------------


def attacks(corpus: str, found: Sequence[Summary]) -> list[str]:
    """Tables of part attacks."""
    hub = [row for row in found if row["attack"] == "hub"]
    known = sorted({row["known_rows"] for row in hub})
    custody = [row for row in found if row["attack"] == "custody"]
    asked = sorted({row["questions"] for row in custody})
    return [
        f"## Vectors rebuilt from scores, passages of {corpus}",
        "Mean cosine of rebuilt to true vectors of at most 3,000 passages; other passages stand "
        "for questions. *Hub*: masked scores of unknown questions, some passages known, rows "
        "granted to be told apart over all questions; in brackets the same of the known rows' "
        "mean. *Custody*: all scores of known questions, at who would hold the key.",
        _table(
            " | ".join(["hub, questions of one packing", *(f"{n} rows known" for n in known)]),
            [
                (str(count), *(_rebuilt(row) for row in hub if row["questions"] == count))
                for count in sorted({row["questions"] for row in hub})
            ],
        ),
        _table(
            " | ".join(["custody, rows", *(f"{n} questions" for n in asked)]),
            [
                (
                    "in fresh places" if repacked else "in stable places, the control",
                    *(f"{r['mean_cosine']:.2f}" for r in custody if r["repacked"] == repacked),
                )
                for repacked in (False, True)
            ],
        ),
    ]


def _rebuilt(row: Summary) -> str:
    return f"{row['mean_cosine']:.2f} ({row['guess']:.2f})"


# -- federation -----------------------------------------------------------------------------------


def federation(corpus: str, groups: Sequence[Summary]) -> list[str]:
    """Tables of part federation."""
    return [
        f"## The running federation over {corpus}",
        "Real processes over the production channels, all silos asked, one question at a time; "
        "k = 10, nothing withheld. *2k*, *k*: passages that a sealed question takes out.",
        "### Quality",
        _table(
            "silos | asked | questions | nDCG@10 [95 %] | minus open [95 %] | released | "
            "missing | failed",
            [_quality(group) for group in groups],
        ),
        "### Retrieval, ms",
        _table(
            " | ".join(
                ["silos | asked | load | p50 | p95 | p50 without rescoring", *_heads(LATENCY)]
            ),
            [_latency(group) for group in groups],
        ),
        "### Bytes by link, mean a question",
        _table(
            " | ".join(["silos | asked", *_links(groups)]),
            [_traffic(group, _links(groups)) for group in groups],
        ),
        "### Whole answers, ms",
        _table(
            "silos | asked | questions | load | p50 | p95 | seen by the client p50 | abstained",
            [_answers(group) for group in groups if "answers" in group],
        ),
    ]


def _quality(group: Summary) -> tuple[str, ...]:
    gap = group["ndcg@10_minus_open"]
    told = f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
    return (
        *_named(group),
        str(group["questions"]),
        _interval(group["ndcg@10"]),
        "" if group["setting"] == "open" else told,
        f"{group['released_mean']:.1f}",
        str(group["missing"]),
        str(group["failed"]),
    )


def _latency(group: Summary) -> tuple[str, ...]:
    ms = group["ms"]
    stages = (
        f"{_ms(ms[stage]['p50'])} / {_ms(ms[stage]['p95'])}" if stage in ms else ""
        for stage in LATENCY
    )
    whole = (ms["total"]["p50"], ms["total"]["p95"], group["without_rescoring_ms"]["p50"])
    return (*_named(group), f"{group['load_average']:.1f}", *map(_ms, whole), *stages)


def _heads(stages: Sequence[str]) -> list[str]:
    return [f"{stage} p50 / p95" for stage in stages]


def _links(groups: Sequence[Summary]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(link for group in groups for link in group["bytes_by_link"]))


def _traffic(group: Summary, links: Sequence[str]) -> tuple[str, ...]:
    sizes = group["bytes_by_link"]
    return (*_named(group), *(f"{sizes.get(link, 0):,.0f}" for link in links))


def _answers(group: Summary) -> tuple[str, ...]:
    found = group["answers"]
    times = (found["ms"]["total"]["p50"], found["ms"]["total"]["p95"], found["wall_ms"]["p50"])
    load = f"{found['load_average']:.1f}"
    return (*_named(group), str(found["asked"]), load, *map(_ms, times), str(found["abstained"]))


def _named(group: Summary) -> tuple[str, str]:
    return str(group["silos"]), group["setting"]


# -- cells ----------------------------------------------------------------------------------------


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    columns = head.split(" | ")
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ms(value: float | None) -> str:
    """Three digits that matter.

    >>> _ms(0.0312), _ms(4.567), _ms(104.4), _ms(1_999_000.0), _ms(None)
    ('0.03', '4.57', '104', '1,999,000', 'does not fit')
    """
    if value is None:
        return "does not fit"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _mb(size: float) -> str:
    return f"{size / 1e6:,.2f} MB"


def _interval(value: Summary) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
