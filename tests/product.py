"""The product's source as tests search it: every room, each file once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Each is imported as siloquy.<folder>, through a symlink there.
FOLDERS = tuple(sorted(path.name for path in (ROOT / "siloquy").iterdir() if path.is_symlink()))


def sources(*left_out: str) -> Iterator[tuple[str, Path]]:
    """Each Python file with its path in the project, but for those of the folders ``left_out``."""
    for folder in ("siloquy", *FOLDERS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            linked = any(part.is_symlink() for part in path.parents)
            if folder not in left_out and not linked and "node_modules" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path
