"""A corpus small enough to read, as a BEIR folder: wards that are silos, and who answers what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

WARDS = {
    "north": ["asthma attacks are treated with salbutamol", "croup is treated with dexamethasone"],
    "south": ["sepsis needs antibiotics within one hour", "cellulitis is treated for seven days"],
    "west": ["gout flares are treated with colchicine", "arthritis is treated with methotrexate"],
}
QUESTIONS = {
    "q1": ("How is an asthma attack treated?", "north-0"),
    "q2": ("When are antibiotics needed in sepsis?", "south-0"),
    "q3": ("Which medicine treats a gout flare?", "west-0"),
    "q4": ("What treats croup in a child?", "north-1"),
}


def write_corpus(folder: Path, wards: Mapping[str, Sequence[str]] = WARDS) -> Path:
    """The folder, with corpus, questions and judgements in it."""
    records = [
        {"_id": f"{ward}-{i}", "title": "", "text": f"In this hospital {text}.", "source": ward}
        for ward, texts in wards.items()
        for i, text in enumerate(texts)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, records)))
    queries = [{"_id": name, "text": text} for name, (text, _) in QUESTIONS.items()]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels").mkdir()
    rows = [f"{name}\t{document}\t1" for name, (_, document) in QUESTIONS.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows))
    return folder
