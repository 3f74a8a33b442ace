"""A model's reply while it comes: whole sentences, each with the numbers that it cites. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from siloquy.text.words import clean, sentence_spans

_CITATION = re.compile(r"\[\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*\]")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+|\*\*|__|^#+\s*")
# What a model thinks before it answers, where the endpoint does not keep it apart.
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_SPACES = re.compile(r"\s+")
MOST_SENTENCE_CHARACTERS = 1200


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """One sentence of a draft and the source numbers that it cites, in order of appearance."""

    text: str
    citations: tuple[int, ...]


class Sentences:
    r"""Cuts a reply into sentences as its pieces come.

    >>> cut = Sentences()
    >>> cut.add("Give 5 mg [1].\nWai"), cut.add("t"), cut.end()
    ([DraftSentence(text='Give 5 mg.', citations=(1,))], [],
     [DraftSentence(text='Wait', citations=())])
    """

    def __init__(self) -> None:
        self._held = ""
        self.whole = ""

    def add(self, piece: str) -> list[DraftSentence]:
        """The sentences that ``piece`` completes."""
        self.whole += piece
        self._held = _THOUGHT.sub("", self._held + piece)
        if "<think>" in self._held:
            return []
        # What follows a full stop decides whether it ends a sentence, and citations may come late.
        done, line, rest = self._held.rpartition("\n")
        found = _cut(done) if line else []
        self._held = rest if line else self._held
        spans = sentence_spans(self._held)
        if len(spans) > 2 or len(self._held) > MOST_SENTENCE_CHARACTERS:
            keep = spans[-2][0] if len(spans) > 2 else len(self._held)
            found += _cut(self._held[:keep])
            self._held = self._held[keep:]
        return found

    def end(self) -> list[DraftSentence]:
        """What is left when the reply has ended."""
        left, self._held = self._held.partition("<think>")[0], ""
        return _cut(left)


def _cut(text: str) -> list[DraftSentence]:
    """Sentences of a finished stretch; a mark after the full stop belongs to the one before."""
    found: list[DraftSentence] = []
    for line in clean(text).splitlines():
        settled = _settled(line)
        said = [_said(settled[start:end]) for start, end in sentence_spans(settled)]
        found += [item for item in said if item.text]
    return found


def _settled(line: str) -> str:
    """``line`` with citations moved in front of the full stop that they follow."""
    return re.sub(r"([.!?])((?:\s*\[\s*\d[\d\s,;]*\])+)", r"\2\1", line)


def _said(sentence: str) -> DraftSentence:
    numbers = [int(n) for group in _CITATION.findall(sentence) for n in re.findall(r"\d+", group)]
    text = _BULLET.sub("", _CITATION.sub("", sentence))
    text = re.sub(r"\s+([.,;:!?])", r"\1", _SPACES.sub(" ", text)).strip()
    return DraftSentence(
        text if any(c.isalnum() for c in text) else "", tuple(dict.fromkeys(numbers))
    )
