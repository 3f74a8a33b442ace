"""A compound question taken apart, as it was written. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.generator.understanding.mentions import specific, tokens
from siloquy.generator.words.plain_words import POPULATION, verb
from siloquy.text.words import sentence_spans

_WH = r"(?:what|which|who|when|where|why|how)"
_AUX = r"(?:is|are|does|do|can|could|should|must|may|will|has|have)"
_LONGEST = 80
_NUMBERED = re.compile(r"(?:^|\s)\(?([1-9])[.)]\s+(?=[A-Za-z])")
_BREAK = re.compile(
    r"[,;]? (?:and|also|and also|as well as)(?: then)? "
    rf"(?=(?:(?:in|at|for|on|after|before|by|to) )?{_WH}\b)"
    rf"|, (?=(?:(?:in|at|for|on|by|to) )?{_WH}\b)"
    r"|; ?(?:also,? |and )?(?=\w)"
    rf"|[,;]? and (?={_AUX} (?:it|they|the|there|this)\b)|, and (?={_AUX}\b)",
    re.IGNORECASE,
)
_SETTING = re.compile(
    rf"^(?:in|for|if|when|with|after|before|during|given) [^,?;]{{3,80}}, (?={_WH}\b|{_AUX}\b)",
    re.IGNORECASE,
)
_COMPARED = re.compile(
    r"^compare (?P<a>.+?) (?:and|with|to|versus|vs\.?) (?P<b>.+?)"
    r"(?: (?P<link>for|in|regarding|as to|before|after) (?P<c>.+?))?\W*$",
    re.IGNORECASE,
)
_WHOM = POPULATION.pattern
_TWO_GROUPS = re.compile(
    rf"(?P<head>.+?\b(?:(?:in|for|of) )?)(?P<a>{_WHOM})"
    r"(?: and(?: (?:in|for|of))?| versus| vs\.?| or(?: in| for)?| compared with"
    rf"| as well as(?: in| for)?) (?P<b>{_WHOM})(?P<tail>.*)$",
    re.IGNORECASE,
)
_TWO_PLACES = re.compile(
    r"^(?P<head>.+?) (?P<p>in|on|for|after|before|during|with) (?P<a>[^,?]{3,60}?) "
    r"and (?P=p) (?P<b>[^,?]{3,60})\?*$",
    re.IGNORECASE,
)


def split(question: str, most: int) -> tuple[str, ...]:
    """At most ``most`` pieces in order, statements between them included; ``most`` at least 1."""
    if len(question.split()) > _LONGEST:
        return (question,)
    pieces = _sentences(question)
    pieces = [part for piece in pieces for part in _clauses(piece)]
    pieces = [part for piece in pieces for part in _pairs(piece)]
    asked = [piece for piece in pieces if "?" in piece]
    if len(asked) < 2:
        return (question,)
    return tuple(_capped(pieces, most))


def _capped(pieces: Sequence[str], most: int) -> list[str]:
    """The pieces with all that is beyond ``most`` questions joined to the last."""
    places = [i for i, piece in enumerate(pieces) if "?" in piece]
    if len(places) <= most:
        return list(pieces)
    cut = places[most - 1]
    return [*pieces[:cut], " ".join(pieces[cut:])]


def _sentences(question: str) -> list[str]:
    marks = [match[1] for match in _NUMBERED.finditer(question)]
    if marks[:2] == ["1", "2"]:
        numbered = [piece.strip() for piece in _NUMBERED.sub("\n", question).split("\n")]
        numbered = [piece for piece in numbered if piece]
        return [piece if piece.endswith(("?", ".")) else f"{piece}?" for piece in numbered]
    return [question[start:end] for start, end in sentence_spans(question)]


def _clauses(sentence: str) -> list[str]:
    """A sentence at the joints where another question begins; each side has a verb and a matter."""
    asking = "?" in sentence or re.match(rf"(?:{_WH}|{_AUX})\b", sentence, re.IGNORECASE)
    if not asking:
        return [sentence]
    setting = _SETTING.match(sentence)
    lead = setting.group() if setting else ""
    pieces = [piece.strip(" ?,;") for piece in _BREAK.split(sentence[len(lead) :])]
    if len(pieces) < 2 or not all(_asks(piece) for piece in pieces):
        return [sentence]
    if lead:
        return [f"{lead}{piece}?" for piece in pieces]
    return [f"{piece[0].upper()}{piece[1:]}?" for piece in pieces]


def _asks(piece: str) -> bool:
    found = [token.group().lower() for token in tokens(piece)]
    starts = re.match(rf"(?:\w+ )?{_WH}\b|{_AUX}\b", piece, re.IGNORECASE)
    return bool(starts) and len(found) >= 3 and any(verb(word) for word in found)


def _pairs(sentence: str) -> list[str]:
    """A comparison, two populations or two settings as two questions."""
    if found := _COMPARED.match(sentence):
        rest = f" {found['link']} {found['c']}" if found["c"] else ""
        return [f"What applies to {found[name]}{rest}?" for name in ("a", "b")]
    if found := _TWO_GROUPS.match(sentence):
        return [f"{found['head']}{found[name]}{found['tail']}" for name in ("a", "b")]
    found = _TWO_PLACES.match(sentence)
    if found and specific(found["a"]) and specific(found["b"]):
        return [f"{found['head']} {found['p']} {found[name]}?" for name in ("a", "b")]
    return [sentence]
