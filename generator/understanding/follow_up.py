"""A follow-up question written out from the turns before it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.generator.understanding.carried import (
    base_of,
    carried,
    continues,
    counted,
    joined,
    main_clause,
    stems,
    tail,
    uncapped,
    with_around,
)
from siloquy.generator.understanding.fragments import is_fragment, replaced, spliced
from siloquy.generator.understanding.leaning import leaning
from siloquy.generator.understanding.mentions import (
    Topic,
    drugs,
    kind,
    phrases,
    specific,
    tokens,
    topic,
)
from siloquy.generator.words.plain_words import (
    DRUG_ASKED,
    INTERVENTIONS,
    PREPOSITIONS,
    QUANTITIES,
    verb,
)
from siloquy.types import Turn

_LEAD = re.compile(
    r"^(?:(?:and|but|so|then|ok(?:ay)?|also|plus|now|well|thanks|thank you)\b[ ,]*)*"
    r"(?:(?:what|how) about\b|what if\b"
    r"|(?:the )?same(?: question| thing)?(?: for| in| with)\b)?[ ,]*",
    re.IGNORECASE,
)
_BACK = re.compile(
    r"^(?:(?:(?:going |coming )?back to|returning to|regarding|concerning|about|as for) |"
    r"(?:(?:for|in|with|on) )?(?=the |that |this ))(?P<name>[^,:?]{3,80})[,:] "
    r"(?P<rest>(?:what|which|who|when|where|why|how|is|are|does|do|can|should|must|may|will)\b.+)$",
    re.IGNORECASE,
)
_BARE_WH = re.compile(
    r"^(?P<wh>(?:for |since |until |by |from )?(?:why(?: not| so)?|how(?: long| often| much| many| "
    r"soon| fast| quickly)?|when|where|who))(?: (?:exactly|then|is that|is this))?\W*$",
    re.IGNORECASE,
)
_LOOSE = re.compile(
    r"^which (?:is|are) (?!the\b|an?\b|true\b|not\b|correct\b)"
    r"|^(?:[\w ]+ )?(?:does|is|can|should|may|must|will) (?:he|she)\b",
    re.IGNORECASE,
)
_SHORT = 9
_LONGEST_CONDITION = 12
_LONGEST = 40


def rewrite(turns: Sequence[Turn], question: str) -> str:
    """``question`` standing alone; itself when it does already."""
    readable = any(character.isalnum() for character in question)
    if not turns or not readable or len(question.split()) > _LONGEST:
        return question
    lead = _LEAD.match(question)
    rest = question[lead.end() :] if lead else question
    opening = question[: len(question) - len(rest)].lower()
    body = rest.rstrip(" ?.!;:,")
    if not body:
        return question
    written = _written(turns, opening, body)
    return question if written is None else _tidy(written)


def _written(turns: Sequence[Turn], opening: str, body: str) -> str | None:
    last = turns[-1].question
    asked = _BARE_WH.match(body)
    if asked:
        return spliced(last, asked["wh"])
    if _condition(opening, body):
        condition = body if "if" not in opening.split() else f"if {body}"
        return f"{main_clause(last)} {condition}"
    back = _BACK.match(body)
    if back and continues(turns, back["name"]):
        return _back(base_of(turns, back["name"]), back["rest"])
    if is_fragment(body):
        return replaced(turns, last, opening, body)
    return _clause(turns, opening, body)


def _back(base: Turn, rest: str) -> str:
    """A clause about an earlier turn's matter."""
    match = leaning(rest)
    if match and (written := _resolved((base,), rest, match)):
        return written
    about = carried((base,), base.question, rest)
    return joined(rest, about) if about else rest


def _condition(opening: str, body: str) -> bool:
    """Whether it is a condition alone, as "What if she is pregnant?" or "If allergic?"."""
    if "if" in opening.split():
        return "," not in body
    starts = body.lower().startswith(("if ", "unless ", "in case "))
    return starts and "," not in body and len(body.split()) <= _LONGEST_CONDITION


def _clause(turns: Sequence[Turn], opening: str, body: str) -> str | None:
    """A clause with its pronouns resolved, or what it leaves out added; None when complete."""
    match = leaning(body)
    if match:
        return _resolved(turns, body, match)
    if _complete(turns, opening, body):
        return None
    about = carried(turns, base_of(turns, body).question, body, "typed")
    return joined(body, about) if about else None


def _complete(turns: Sequence[Turn], opening: str, body: str) -> bool:
    """Whether a clause without a pronoun names what it asks about."""
    named = specific(body)
    if not named:
        return False
    short = len(body.split()) <= _SHORT
    if short and (_definite(turns, body) or _LOOSE.search(body)):
        return False
    if short and all(word in INTERVENTIONS for word in named):
        return False
    if kind(body):
        return True
    return not (short and (opening.startswith("and") or _weak(body)))


def _definite(turns: Sequence[Turn], body: str) -> bool:
    """Whether "the" names something of the last turn: "Can the cannula be changed?"."""
    known = set(stems(specific(f"{turns[-1].question} {turns[-1].answer}")))
    return all(
        re.match(r"(?:the|that|this)\b", phrase.text, re.IGNORECASE)
        and set(stems(specific(phrase.text))) <= known
        for phrase in phrases(body)
        if phrase.specific
    )


def _weak(body: str) -> bool:
    """Whether all that is named qualifies a quantity: "What is the potassium target?"."""
    named = [phrase.text.split() for phrase in phrases(body) if phrase.specific]
    return all(
        found[-1].lower().removesuffix("s") in QUANTITIES
        and not any(word[:1].isupper() for word in found)
        for found in named
    )


def _resolved(turns: Sequence[Turn], body: str, match: re.Match[str]) -> str | None:
    about = counted(turns, match["nth"]) or _many(turns, body, match)
    about = about or carried(turns, turns[-1].question, body)
    if about is None:
        return None
    entity, rest = about.entity, body[match.end() :]
    if DRUG_ASKED.search(body) and kind(entity) == "disease":
        entity = f"the treatment of {entity}"
    if match.group().lower() in {"its", "their"}:
        owned, rest = _owned(rest)
        entity = f"the {owned} of {entity}"
    return with_around(f"{body[: match.start()]}{entity}{rest}", about)


def _owned(rest: str) -> tuple[str, str]:
    """What stands after "its" up to a verb or preposition, and from there."""
    ends = (
        token.start()
        for token in tokens(rest)
        if verb(token.group().lower()) or token.group().lower() in PREPOSITIONS
    )
    end = next(ends, len(rest))
    return rest[:end].strip(), f" {rest[end:]}"


def _many(turns: Sequence[Turn], body: str, match: re.Match[str]) -> Topic | None:
    """The drugs that the last answer lists, when "they" is asked what one asks of drugs."""
    items = drugs(turns[-1].answer)
    plural = match.group().lower() in {"they", "them", "these", "those"}
    if not plural or len(items) < 2 or not DRUG_ASKED.search(body):
        return None
    names = [uncapped(item) for item in items[:3]]
    return Topic(f"{', '.join(names[:-1])} and {names[-1]}", tail(topic(turns[-1].question)))


def _tidy(text: str) -> str:
    text = " ".join(text.split())
    text = re.sub(r"\s+([?,.;:])", r"\1", text).rstrip(" ?.!;:,")
    return f"{text[0].upper()}{text[1:]}?"
