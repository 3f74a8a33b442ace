"""HTML: what a page says, without the frame around it, its headings marked as Markdown's."""

from __future__ import annotations

from selectolax.lexbor import LexborHTMLParser

from siloquy.silo_node.reading.formats.plain import decode
from siloquy.text.words import clean

_NOISE = ["script", "style", "nav", "header", "footer", "noscript", "template"]
_BLOCKS = (
    "address, article, aside, blockquote, caption, dd, details, div, dl, dt, fieldset, figcaption, "
    "figure, form, h1, h2, h3, h4, h5, h6, hr, li, main, ol, p, pre, section, summary, table, tr, "
    "ul"
)
_SECTIONS = "h1, h2, h3, h4, h5, h6"
_CELL = ":is(td, th) + :is(td, th)"
# Control characters that no cleaned page holds and that are no white space to str.split.
_BLOCK_BREAK, _LINE_BREAK = "\x02", "\x03"


def read(data: bytes, stem: str) -> tuple[str, str]:
    """Title and text of a page; the charset that it claims does not matter."""
    tree = LexborHTMLParser(decode(data))
    title = _title(tree)
    tree.strip_tags(_NOISE, recursive=True)
    for node in tree.css(_BLOCKS):
        node.insert_before(_BLOCK_BREAK)
        node.insert_after(_BLOCK_BREAK)
    # As Markdown marks them: where a passage stands is told by the heading above it.
    for node in tree.css(_SECTIONS):
        node.insert_before("#" * int(str(node.tag)[1]) + " ")
    for node in tree.css("br"):
        node.insert_before(_LINE_BREAK)
    # Doses in a table's cells must not run into each other.
    for node in tree.css(_CELL):
        node.insert_before(" | ")
    return title, _layout(tree.body.text() if tree.body else "")


def _title(tree: LexborHTMLParser) -> str:
    """The page's title; a first heading that only says it again is taken out of ``tree``."""
    named, heading = tree.css_first("head title"), tree.css_first("h1")
    title = " ".join(named.text().split()) if named else ""
    first = " ".join(heading.text().split()) if heading else ""
    if heading and title in ("", first):
        heading.decompose()
    return title or first


def _layout(marked: str) -> str:
    """Paragraphs between blank lines: what sentence splitting takes for an end."""
    blocks = (
        "\n".join(" ".join(line.split()) for line in block.split(_LINE_BREAK)).strip()
        for block in marked.split(_BLOCK_BREAK)
    )
    return clean("\n\n".join(block for block in blocks if block.strip("#")))
