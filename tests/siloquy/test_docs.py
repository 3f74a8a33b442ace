"""The documentation says what the code does: schema, settings, exit codes, links, named tests."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from siloquy import errors, types
from siloquy.settings import GatewaySettings, HubSettings, SiloSettings
from siloquy.trust.receipt import Body

HOME = Path(__file__).resolve().parents[2]
DOCS = HOME / "docs"
SCHEMA = json.loads((DOCS / "answer.schema.json").read_text(encoding="utf-8"))
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
PAGES = sorted({*DOCS.glob("*.md"), *HOME.glob("*.md")})

Change = Callable[[dict[str, Any]], object]


# -- the answer's schema --------------------------------------------------------------------------


ANSWER: dict[str, Any] = {
    "question": "Which loading dose?",
    "answer": "Give 25 mg/kg once. [1]",
    "abstained": False,
    "sentences": [
        {
            "text": "Give 25 mg/kg once.",
            "citations": [1],
            "support": 1.0,
            "spans": [{"n": 1, "start": 0, "end": 19}],
        }
    ],
    "sources": [
        {
            "n": 1,
            "silo": "st-anna",
            "document": "dosing.txt",
            "title": "",
            "text": "Give 25 mg/kg once.",
            "start": 0,
            "end": 19,
            "score": 0.71,
            "section": "Dose",
            "dated": "2024-01-29",
        }
    ],
    "plan": {
        "mode": "open",
        "asked": ["st-anna", "st-bruno"],
        "skipped": ["st-clara"],
        "coverage": None,
        "reasons": {"st-anna": "expected to hold 9.0 of the best 10"},
        "intent": "precise",
        "audit": False,
        "notes": [],
    },
    "missing": [{"silo": "st-bruno", "reason": "timeout", "detail": "it did not answer in 9 s"}],
    "withheld": {"st-anna": 2},
    "released": {"st-anna": 1},
    "flagged": {"st-anna": "claimed a similarity 0.40 away from its passage's"},
    "rounds": [
        {
            "kind": "question",
            "question": "Which loading dose?",
            "query_id": "0" * 32,
            "asked": ["st-anna", "st-bruno"],
            "released": {"st-anna": 1},
        }
    ],
    "conflicts": [
        {
            "kind": "dose",
            "sides": [{"n": 1, "start": 0, "end": 19}],
            "detail": "25 mg/kg in [1], 30 mg/kg in [2]",
        }
    ],
    "dropped": 0,
    "notes": [],
    "mode": "open",
    "model": "extractive-1",
    "extractive": True,
    "timings_ms": {"embed": 12.5, "total": 80},
    "receipt": {
        "body": {
            "version": 4,
            "query_ids": ["0" * 32],
            "created": 1,
            "gateway": "ward",
            "federation": "AAAA-BBBB-CCCC-DDDD-2345",
            "roster_version": 1,
            "roster_head": "a" * 64,
            "question": "b" * 64,
            "answer": "c" * 64,
            "abstained": False,
            "sources": [{"n": 1, "silo": "st-anna", "commitment": "d" * 64}],
            "asked": ["st-anna", "st-bruno"],
            "missing": [],
            "released": {"st-anna": 1},
            "withheld": {},
            "flagged": {},
            "conflicts": "f" * 64,
            "dropped": 0,
            "notes": [],
            "mode": "open",
            "intent": "precise",
            "coverage": None,
            "model": "extractive-1",
            "extractive": True,
            "encoder": "e" * 64,
            "ledger_heads": [{"signer": "st-anna", "body": "AA==", "signature": "AA=="}],
        },
        "signature": "AA==",
        "salt": "AA==",
        "roster": "AA==",
    },
    "suggestions": ["When is vancomycin stopped?"],
}
FAILURE: dict[str, Any] = {"error": {"code": "usage", "message": "it is empty", "hint": ""}}


def changed(value: dict[str, Any], change: Change) -> dict[str, Any]:
    """A copy of ``value`` with ``change`` made to it."""
    other = copy.deepcopy(value)
    change(other)
    return other


def abstained(value: dict[str, Any]) -> None:
    value |= {"abstained": True, "sentences": [], "sources": []}


def is_answer(value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(value))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("value", [ANSWER, changed(ANSWER, abstained), FAILURE])
def test_answers_abstentions_and_errors_fit_the_schema(value: dict[str, Any]) -> None:
    jsonschema.validate(value, SCHEMA)


@pytest.mark.parametrize("key", sorted(ANSWER))
def test_an_answer_that_lacks_a_key_is_none(key: str) -> None:
    assert not is_answer(changed(ANSWER, lambda value: value.pop(key)))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(extra=1),
        lambda value: value.update(abstained=True),
        lambda value: value.update(sentences=[]),
        lambda value: value.update(sources=[]),
        lambda value: value.update(mode="secret"),
        lambda value: value.update(error=FAILURE["error"]),
        lambda value: value["sentences"][0].update(citations=[]),
        lambda value: value["sentences"][0].update(support=1.2),
        lambda value: value["sources"][0].update(n=0),
        lambda value: value["sources"][0].update(vector=[0.1]),
        lambda value: value["plan"].update(coverage="high"),
        lambda value: value["plan"].update(coverage=1.5),
        lambda value: value["plan"].update(intent="cheap"),
        lambda value: value["plan"].update(audit="no"),
        lambda value: value["plan"].pop("notes"),
        lambda value: value["receipt"]["body"].update(coverage="high"),
        lambda value: value["missing"][0].update(reason="tired"),
        lambda value: value["released"].update({"st-anna": -1}),
        lambda value: value["released"].update({"No Name": 1}),
        lambda value: value["timings_ms"].pop("total"),
        lambda value: value["receipt"].pop("signature"),
        lambda value: value["receipt"]["body"].update(question="the question itself"),
    ],
)
def test_what_is_no_answer_does_not_fit_the_schema(change: Change) -> None:
    assert not is_answer(changed(ANSWER, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(sentences=ANSWER["sentences"]),
        lambda value: value.update(sources=ANSWER["sources"]),
    ],
)
def test_an_abstention_shows_neither_sentences_nor_sources(change: Change) -> None:
    assert not is_answer(changed(changed(ANSWER, abstained), change))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["error"].pop("hint"),
        lambda value: value["error"].update(code="odd"),
        lambda value: value["error"].update(trace="..."),
    ],
)
def test_what_is_no_error_does_not_fit_the_schema(change: Change) -> None:
    assert not is_answer(changed(FAILURE, change))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (types.Answer, "answer"),
        (types.Sentence, "sentence"),
        (types.Source, "source"),
        (types.Plan, "plan"),
        (types.Missing, "missing"),
        (Body, "receipt_body"),
    ],
)
def test_the_schema_names_the_fields_that_the_code_has(kind: type[Any], name: str) -> None:
    fields = {item.name for item in dataclasses.fields(kind)}
    described = SCHEMA["$defs"][name]
    assert set(described["properties"]) == fields
    assert set(described["required"]) == fields
    assert described["additionalProperties"] is False


def test_the_schema_names_the_reasons_and_codes_that_the_code_has() -> None:
    reasons = SCHEMA["$defs"]["missing"]["properties"]["reason"]["enum"]
    assert set(reasons) == set(typing.get_args(errors.MissingReason))
    codes = SCHEMA["$defs"]["failure"]["properties"]["error"]["properties"]["code"]["enum"]
    assert set(codes) == set(errors.BY_CODE)


# -- operations -----------------------------------------------------------------------------------


def keys(settings: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a settings class with its default, as ``section.key``."""
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            yield from keys(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def in_toml(value: object) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value)


@pytest.mark.parametrize("settings", [SiloSettings(), GatewaySettings(), HubSettings()])
def test_every_settings_key_stands_in_operations_with_its_default(settings: object) -> None:
    rows = {line.rsplit("|", 2)[0] for line in OPERATIONS.splitlines()}
    wanted = {f"| `{name}` | `{in_toml(value)}` " for name, value in keys(settings)}
    assert wanted <= rows


def test_every_settings_key_in_operations_is_one() -> None:
    known = {
        name
        for settings in (SiloSettings(), GatewaySettings(), HubSettings())
        for name, _ in keys(settings)
    }
    table = OPERATIONS.partition("## Settings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == known


def exit_codes() -> set[int]:
    named = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    return {0, *(kind.exit_code for kind in errors.BY_CODE.values()), *named}


def test_every_exit_code_stands_in_operations() -> None:
    table = OPERATIONS.partition("## Exit codes")[2].partition("\n## ")[0]
    assert set(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == exit_codes()


# -- links and names ------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    """Targets of relative links in a Markdown page, without their fragment."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [
        target.partition("#")[0]
        for target in targets
        if not re.match(r"[a-z]+:", target) and not target.startswith("#")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_points_to_an_existing_file(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "threat-model.md").read_text(encoding="utf-8")))
    sources = (path.read_text(encoding="utf-8") for path in (HOME / "tests").rglob("test_*.py"))
    written = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(sources), re.MULTILINE))
    assert named
    assert named - written == set()


ROOMS = ("siloquy", "router", "silo_node", "aggregator", "gateway", "generator", "eval", "tests")
GUIDES = [DOCS / "design.md", DOCS / "sealed.md", DOCS / "routing.md", HOME / "CONTRIBUTING.md"]
RESERVED = {"siloquy/engine.py"}


def named(page: Path, pattern: str) -> set[str]:
    """What a page names in code marks, of our own folders."""
    found = re.findall(rf"`({pattern})`", page.read_text(encoding="utf-8"))
    return {name for name in found if name.partition("/")[0] in ROOMS}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_file_and_folder_that_a_guide_names_exists(page: Path) -> None:
    paths = named(page, r"[\w/]+\.(?:py|txt|ts)|[\w/]+/")
    assert len(paths) > 4
    assert {name for name in paths - RESERVED if not (HOME / name).exists()} == set()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_what_a_guide_names_beside_a_file_is_in_it(page: Path) -> None:
    """For `gateway/phases.py` `Phases.seal` the file must define both names."""
    beside = re.findall(
        r"`([\w/]+\.py)` `([A-Za-z_]\w*(?:\.\w+)?)(?<!\.py)`", page.read_text(encoding="utf-8")
    )
    lost = {
        f"{path}: {name}"
        for path, name in beside
        if path.partition("/")[0] in ROOMS
        and path not in RESERVED
        and not set(name.split(".")) <= defined(HOME / path)
    }
    assert lost == set()


def defined(path: Path) -> set[str]:
    """Names of classes, functions and constants in a file, methods among them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
