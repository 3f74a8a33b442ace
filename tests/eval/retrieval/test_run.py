from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from siloquy.errors import SettingsError, UsageError
from siloquy.eval import beir, metrics
from siloquy.eval.retrieval.context import RetrievalConfig
from siloquy.eval.retrieval.run import run
from tests.eval.wards import QUESTIONS, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.timeout(300)
def test_the_federation_finds_what_the_central_index_finds(corpus: Path, tmp_path: Path) -> None:
    config = RetrievalConfig(
        corpus, tmp_path / "out", cache=tmp_path / "cache.sqlite", rescore=True
    )
    results = run(config, lambda text: None)
    assert results["federated_ndcg@10"] == results["central_ndcg@10"]
    assert results["federated_hit@1"]["mean"] == 1.0
    assert (results["silos"], results["silos_asked_mean"]) == (3, 3.0)
    assert results["passages_released_most"] <= 10
    assert results["silo_memory_mb_most"] < 200
    assert results["ingest_embedded"] == 6
    _recompute(corpus, tmp_path / "out", results)


def _recompute(corpus: Path, out: Path, results: dict[str, object]) -> None:
    """Every mean follows from the rows, and the run files hold the same rankings."""
    rows = [json.loads(line) for line in (out / "per_query.jsonl").read_text().splitlines()]
    values = [row["federated"]["ndcg@10"] for row in rows]
    assert asdict(metrics.estimate(values, 0)) == results["federated_ndcg@10"]
    ranked = [row["ranking"][0] for row in rows]
    lines = (out / "federated.trec").read_text().splitlines()
    assert [line.split()[2] for line in lines if line.split()[3] == "1"] == ranked
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["data_sha256"] == beir.file_hashes(corpus, "test")
    written = "".join(path.read_text() for path in out.iterdir())
    assert not any(text in written for text, _ in QUESTIONS.values())


def test_results_are_never_written_over(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UsageError, match="not empty"):
        run(RetrievalConfig(corpus, tmp_path), lambda text: None)


def test_a_sample_repeats_with_its_seed(corpus: Path) -> None:
    chosen = [beir.load(corpus, "test", 2, seed).questions for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1]
    assert len(chosen[2]) == 2


def test_a_missing_split_is_named(corpus: Path) -> None:
    with pytest.raises(SettingsError, match=r"dev\.tsv is missing"):
        beir.load(corpus, "dev", None, 0)
