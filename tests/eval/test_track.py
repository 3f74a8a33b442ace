"""The five benchmarks as tables of tracks: the same shape, and the names that the help lists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from siloquy.cli import bench
from siloquy.errors import UsageError
from siloquy.eval import track
from siloquy.eval.answers.tracks import TRACKS as ANSWERS
from siloquy.eval.load.tracks import TRACKS as LOAD
from siloquy.eval.retrieval.tracks import TRACKS as RETRIEVAL
from siloquy.eval.routing.tracks import TRACKS as ROUTING
from siloquy.eval.sealed.tracks import TRACKS as SEALED
from siloquy.eval.track import Track

TABLES: dict[str, Mapping[str, Track[Any]]] = {
    "answers": ANSWERS,
    "load": LOAD,
    "retrieval": RETRIEVAL,
    "routing": ROUTING,
    "sealed": SEALED,
}
OPTIONS = {"answers": "--track", "load": "--part", "routing": "--track", "sealed": "--part"}
LINE = 80


# -- the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_track_says_in_a_line_what_it_measures_and_can_be_run(name: str) -> None:
    for key, row in TABLES[name].items():
        assert re.fullmatch("[a-z]+", key)
        assert 0 < len(row.measures) <= LINE
        assert row.measures == row.measures.strip().removesuffix(".")
        assert row.measures.isprintable()
        assert callable(row.run)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_help_lists_the_tracks_in_the_table_s_order(name: str) -> None:
    assert listed(help_of(name, OPTIONS[name])) == list(TABLES[name])


def help_of(command: str, option: str) -> str:
    group = typer.main.get_command(bench.app)
    parameters = group.commands[command].params  # type: ignore[attr-defined]
    (found,) = [one for one in parameters if option in one.opts]
    return str(found.help)


def listed(text: str) -> list[str]:
    """Names before the first semicolon; what stands in brackets is about the name before."""
    names = re.sub(r"\s*\(.*?\)", "", text.partition(";")[0])
    return re.split(r", | or ", names)


def test_the_command_line_starts_without_the_benchmarks() -> None:
    asked = "import sys, siloquy.cli.bench; sys.exit('siloquy.eval' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0  # noqa: S603


# -- choosing and running -------------------------------------------------------------------------


def adds(**found: object) -> Track[list[str]]:
    def run(asked: list[str]) -> dict[str, Any]:
        asked.extend(found)
        return found

    return Track("what it is given", run)


TABLE = {"gold": adds(one=1), "sweep": adds(two=2), "again": adds(one=3)}


def test_without_names_all_are_chosen_and_with_them_in_the_table_s_order() -> None:
    assert track.chosen((), TABLE) == ("gold", "sweep", "again")
    assert track.chosen(["sweep", "gold", "sweep"], TABLE) == ("gold", "sweep")


@pytest.mark.parametrize("word", ["track", "part"])
def test_an_unknown_name_is_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(UsageError) as refused:
        track.chosen(["gold", "golden"], TABLE, word)
    assert refused.value.message == f"there is no {word} 'golden'"
    assert refused.value.hint == "one of gold, sweep, again"


def test_tracks_run_in_the_table_s_order_whatever_order_is_asked() -> None:
    asked: list[str] = []
    assert track.measured(["sweep", "gold"], TABLE, asked) == {"one": 1, "two": 2}
    assert asked == ["one", "two"]


def test_what_a_track_says_again_counts_and_stands_last() -> None:
    assert list(track.measured(TABLE, TABLE, []).items()) == [("two", 2), ("one", 3)]
