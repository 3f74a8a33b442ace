"""The house as a whole: all on disk is shipped, folders show little, no file knows a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.product import FOLDERS

ROOT = Path(__file__).resolve().parents[2]
SETUPTOOLS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "setuptools"
]
PACKAGES: list[str] = SETUPTOOLS["packages"]
MOST_NAMES = 10


def folder_of(package: str) -> Path:
    """Where the source of an installed package lies."""
    mapped = SETUPTOOLS["package-dir"].get(package)
    return ROOT / (mapped or package.replace(".", "/"))


# What the page is built from; what a browser loads lies in its folder dist.
PAGE = ROOT / "gateway" / "ui"


def on_disk() -> Iterator[Path]:
    """Every file of the product folders, each once, but caches and what the page is built from."""
    for folder in ("siloquy", *FOLDERS):
        for path in sorted((ROOT / folder).rglob("*")):
            through_a_link = any(part.is_symlink() for part in path.parents)
            source = path.is_relative_to(PAGE) and not path.is_relative_to(PAGE / "dist")
            skipped = source or path.name == ".built" or "__pycache__" in path.parts
            if path.is_file() and not skipped and not through_a_link:
                yield path


def shipped() -> set[Path]:
    """Files that the wheel's package list names."""
    found = {path for package in PACKAGES for path in folder_of(package).glob("*.py")}
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            found |= {path for path in folder_of(package).glob(pattern) if path.is_file()}
    return found


def tracked() -> list[Path]:
    """Files that are in the repository, or will be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


# -- the wheel ------------------------------------------------------------------------------------


def test_every_file_of_the_product_is_in_the_wheel() -> None:
    assert [str(path.relative_to(ROOT)) for path in on_disk() if path not in shipped()] == []


def test_every_package_of_the_wheel_is_on_disk() -> None:
    assert [
        package for package in PACKAGES if not (folder_of(package) / "__init__.py").exists()
    ] == []
    assert len(set(PACKAGES)) == len(PACKAGES)


def test_every_pattern_of_the_wheel_finds_something() -> None:
    idle = [
        f"{package}: {pattern}"
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        if not any(folder_of(package).glob(pattern))
    ]
    assert idle == []


def test_every_folder_of_the_product_is_a_package_under_its_own_name() -> None:
    assert {f"siloquy.{folder}" for folder in FOLDERS} <= set(PACKAGES)
    assert len(FOLDERS) == 7
    for folder in FOLDERS:
        link = ROOT / "siloquy" / folder
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder
        assert SETUPTOOLS["package-dir"][f"siloquy.{folder}"] == folder


# -- what folders show ----------------------------------------------------------------------------


def shown(package: str) -> set[str]:
    """Public names that a package's __init__ binds or lists."""
    tree = ast.parse((folder_of(package) / "__init__.py").read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {item.id for item in node.targets if isinstance(item, ast.Name)}
            if "__all__" in names and isinstance(node.value, ast.List | ast.Tuple):
                names |= {str(ast.literal_eval(item)) for item in node.value.elts}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return {name for name in names if not name.startswith("_")} - {"annotations"}


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "siloquy.cli"])
def test_a_folder_shows_at_most_ten_names(package: str) -> None:
    assert len(shown(package)) <= MOST_NAMES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_says_what_it_is_for(package: str) -> None:
    tree = ast.parse((folder_of(package) / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_folder_lists_is_there(package: str) -> None:
    module = __import__(package, fromlist=["__all__"])
    assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == []


# -- no machine, no leftovers ---------------------------------------------------------------------

MACHINE = re.compile(r"(?<!\w)/(?:(?:home|Users|tmp)/[A-Za-z0-9]|root/|work/)|[A-Z]:\\Users")
HERE = Path(__file__).resolve()


def machine_paths(text: str) -> list[str]:
    """Lines that name a place of one machine."""
    return [line.strip()[:120] for line in text.splitlines() if MACHINE.search(line)]


def test_no_file_names_a_place_of_one_machine() -> None:
    found: dict[str, list[str]] = {}
    for path in tracked():
        lines = machine_paths(path.read_bytes().decode(errors="replace"))
        if lines and path != HERE:
            found[str(path.relative_to(ROOT))] = lines
    assert found == {}


def test_the_search_for_machine_paths_would_find_one() -> None:
    assert machine_paths("a\nopen('/home/anna/x')\nb") == ["open('/home/anna/x')"]
    assert machine_paths("see /home/berta/main and /Users/anna") != []
    assert machine_paths("the network/root/of a tree, /etc/siloquy, ~/siloquy") == []
