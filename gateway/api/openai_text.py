"""An answer as plain chat text: citations in it; references, what is missing or differs after it.

Chat programs render what they are shown: an image's address in a passage would be fetched, and a
link followed. So nothing that Markdown or HTML would make a link or an image of stays whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.trust.receipt import written
from siloquy.types import Answer, CitedSpan, Sentence, Source

REFERENCES = "\n\nReferences:"
MOST_CHARACTERS = 200
# What a silo calls its documents must not look like a citation, in any script.
_ROUND = str.maketrans("[]\uff3b\uff3d\u3010\u3011\u3014\u3015\u27e6\u27e7", "()" * 5)
_REPAIRS = (
    (re.compile(r"!(?=\[)"), "! "),
    (re.compile(r"\](?=[(:])"), "] "),
    (re.compile(r"<(?=[A-Za-z/!?])"), "< "),
    (re.compile(r"(?<=[A-Za-z]):(?=//)"), ": "),
    (re.compile(r"\b(www|mailto|data|javascript)([.:])(?=\S)", re.IGNORECASE), r"\1 \2"),
)


def plain(text: str) -> str:
    """``text`` without anything that a chat program would make a link, an image or HTML of.

    >>> plain("see ![x](https://a.example) and <img src=y>, K+ < 5")
    'see ! [x] (https: //a.example) and < img src=y>, K+ < 5'
    """
    for pattern, instead in _REPAIRS:
        text = pattern.sub(instead, text)
    return text


def line(text: str) -> str:
    r"""``text`` as ``plain``, on one line that is cut where it is too long.

    >>> line("d.txt\n\nMissing silos: none.")
    'd.txt Missing silos: none.'
    """
    # Characters that do not print may break a line too, or turn its direction.
    folded = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    most = MOST_CHARACTERS
    return plain(folded if len(folded) <= most else folded[: most - 1] + "…")


def name(text: str) -> str:
    """``text`` as ``line``, without brackets that could be a citation's.

    >>> name("Give 900 mg [1]")
    'Give 900 mg (1)'
    """
    return line(text.translate(_ROUND))


class Writing:
    """The text of an answer in pieces, as its sentences come."""

    def __init__(self) -> None:
        self._sentences: list[Sentence] = []
        self._shown = ""

    def sentence(self, sentence: Sentence) -> str:
        """The piece that this sentence adds."""
        self._sentences.append(sentence)
        return self._rest(plain(written(self._sentences)))

    def end(self, answer: Answer) -> str:
        """The last piece: what the pieces before did not say of the whole answer."""
        said = plain(answer.answer)
        if not said.startswith(self._shown):
            # A streamed sentence stays on the screen: say in words that it does not hold.
            return f"\n\nThe text above does not hold. The answer is:\n{said}{closing(answer)}"
        return self._rest(said) + closing(answer)

    def _rest(self, text: str) -> str:
        piece, self._shown = text[len(self._shown) :], text
        return piece


def whole(answer: Answer) -> str:
    """The text of a whole answer."""
    return Writing().end(answer)


def closing(answer: Answer) -> str:
    """What follows the sentences: references, silos that are missing or flagged, what differs."""
    cited = {n for sentence in answer.sentences for n in sentence.citations}
    cited |= {side.n for conflict in answer.conflicts for side in conflict.sides}
    references = [_reference(source) for source in answer.sources if source.n in cited]
    parts = [REFERENCES + "".join(f"\n{line}" for line in references)] if references else []
    parts += [f"\n\n{line}" for line in _remarks(answer)]
    return "".join(parts)


def without_closing(text: str) -> str:
    """An earlier answer as a turn: its sentences alone."""
    return text.partition(REFERENCES)[0].strip()


def _reference(source: Source) -> str:
    document = name(source.document)
    where = f"{name(source.silo)}, {document}, characters {source.start}-{source.end}"
    return f"[{source.n}] {name(source.title) or document}. {where}."


def _remarks(answer: Answer) -> list[str]:
    lines = [
        f"To weigh ({conflict.kind}): {line(conflict.detail)} {_marks(conflict.sides)}"
        for conflict in answer.conflicts
    ]
    if answer.missing:
        names = ", ".join(_because(item.silo, item.reason) for item in answer.missing)
        lines.append(f"Missing silos: {names}. What they hold is not in this answer.")
    if answer.flagged:
        names = ", ".join(_because(silo, why) for silo, why in answer.flagged.items())
        lines.append(f"Flagged silos: {names}.")
    lines += [f"Note: {name(note)}" for note in answer.notes]
    return lines


def _because(silo: str, why: str) -> str:
    return f"{name(silo)} ({name(why)})"


def _marks(sides: Sequence[CitedSpan]) -> str:
    return "".join(dict.fromkeys(f"[{side.n}]" for side in sides))
