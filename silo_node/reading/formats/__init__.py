"""The formats of whole files: how each gives a title and a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from siloquy.silo_node.reading.formats import html, markdown, pdf, plain

Format = Callable[[bytes, str], tuple[str, str]]

FORMATS: Mapping[str, Format] = {
    ".txt": plain.read,
    ".md": markdown.read,
    ".html": html.read,
    ".htm": html.read,
    ".pdf": pdf.read,
}
"""The format of each suffix: from a file's bytes and its name without the suffix to title and text.

An empty title is none, an empty text makes the file rejected as empty; what cannot be read raises
Unusable with a reason that quotes nothing. To add a format, put a file beside these, a row here,
a test into tests/silo_node/reading/test_<format>.py, and its suffix into docs/operations.md.
"""
