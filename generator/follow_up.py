"""A follow-up question written out from the turns before it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from siloquy.generator.mentions import (
    Phrase,
    Topic,
    attribute,
    bare,
    drugs,
    kind,
    listed,
    phrases,
    specific,
    tokens,
    topic,
)
from siloquy.generator.plain_words import (
    AUXILIARIES,
    CONDITION,
    DISEASE_ASKED,
    DRUG_ASKED,
    INTERVENTIONS,
    MANNERS,
    POPULATION,
    PREPOSITIONS,
    QUANTITIES,
    WH,
    verb,
)
from siloquy.types import Turn

_LEAD = re.compile(
    r"^(?:(?:and|but|so|then|ok(?:ay)?|also|plus|now|well|thanks|thank you)\b[ ,]*)*"
    r"(?:(?:what|how) about\b|what if\b|(?:the )?same(?: question| thing)?(?: for| in| with)\b)?[ ,]*",
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
_IMPERATIVE = frozenset("tell explain describe list compare give show name define".split())
_NOUN = (
    r"(?:drug|medicine|medication|medicament|agent|condition|disease|disorder|illness|infection|"
    r"syndrome|cancer|treatment|therapy|procedure|operation|problem|antibiotic)s?"
)
_ANAPHOR = re.compile(
    rf"\b(?:(?:this|that|these|those|such an?|the (?:same|latter|former)) {_NOUN}|the {_NOUN}(?! of| for| that)|"
    r"it(?!s\b|')|its|they|them|their|(?:the |that |this )?(?P<nth>first|second|third|last|other|latter|former)(?: one)?"
    r"(?=\W*$| (?:be|is|are|does|do|have|has|affect\w*|cause\w*)\b)|this|these|those|that|one|ones)\b(?P<rest>)",
    re.IGNORECASE,
)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|will|would|does|be) it (?:\w+ ){0,2}(?:to|that|if|when)\b|\bit (?:is|was|takes?|comes?) "
    r"(?:\w+ ){0,2}(?:to|that)\b|\btake it\b(?= for)|\bit take\w* (?:for|to)\b",
    re.IGNORECASE,
)
_DETERMINED = frozenset(
    "is does do did can could should will would of for about with after before to from in on by than like and treat treats cause causes what".split()
)
_ORDINALS = {"first": 0, "former": 0, "second": 1, "third": 2, "latter": -1, "last": -1, "other": 1}
_ALIKE = (
    {"through", "via", "by"},
    {"before", "after", "during", "at"},
    {"of"},
    {"in", "for", "with", "to"},
)
_ASKED_PROPERTY = re.compile(
    r"^(?:what|which) (?:is|are|were|was) (?:the )?(?P<name>[\w -]+?)\W*$", re.IGNORECASE
)
_ASKED_OF = re.compile(
    r"^(?:\w+ )?(?:what|which|whose|how) [\w -]*?\b(?:does|do|did|is|are|can|could|should|will) $",
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


def _base(turns: Sequence[Turn], body: str) -> Turn:
    """The turn that a follow-up continues: the last, unless it names an earlier one's matter."""
    named = set(_stems(specific(body)))
    last = set(_stems(specific(turns[-1].question)))
    for turn in reversed(turns):
        if named & set(_stems(specific(turn.question))) - last:
            return turn
    return turns[-1]


def _stems(found: Sequence[str]) -> list[str]:
    return [word[:6] for word in found]


def _written(turns: Sequence[Turn], opening: str, body: str) -> str | None:
    last = turns[-1].question
    asked = _BARE_WH.match(body)
    if asked:
        return _spliced(last, asked["wh"])
    if _condition(opening, body):
        condition = body if "if" not in opening.split() else f"if {body}"
        return f"{_main(last)} {condition}"
    back = _BACK.match(body)
    if back and _continues(turns, back["name"]):
        return _back(_base(turns, back["name"]), back["rest"])
    if _fragment(body):
        return _replaced(turns, last, opening, body)
    return _clause(turns, opening, body)


def _back(base: Turn, rest: str) -> str:
    """A clause about an earlier turn's matter."""
    leaning = _leaning(rest)
    if leaning and (written := _resolved((base,), rest, leaning)):
        return written
    about = _topic((base,), base.question, rest)
    return _joined(rest, about) if about else rest


def _condition(opening: str, body: str) -> bool:
    """Whether it is a condition alone, as "What if she is pregnant?" or "If allergic?"."""
    if "if" in opening.split():
        return "," not in body
    starts = body.lower().startswith(("if ", "unless ", "in case "))
    return starts and "," not in body and len(body.split()) <= _LONGEST_CONDITION


def _continues(turns: Sequence[Turn], name: str) -> bool:
    known = {stem for turn in turns for stem in _stems(specific(f"{turn.question} {turn.answer}"))}
    found = _stems(specific(name))
    return bool(found) and set(found) <= known


# -- fragments ------------------------------------------------------------------------------------


def _fragment(body: str) -> bool:
    """Whether it is no clause: no auxiliary and no question word that has a verb."""
    found = [token.group().lower() for token in tokens(body)]
    first = found[0]
    if first in AUXILIARIES or first in _IMPERATIVE:
        return False
    if first in WH or (len(found) > 1 and found[1] in WH):
        return not any(verb(word) for word in found[1:])
    asks = any(word in WH for word in found) and any(verb(word) for word in found)
    return not asks and not any(word in AUXILIARIES for word in found)


def _replaced(turns: Sequence[Turn], last: str, opening: str, body: str) -> str | None:
    """The last question with the fragment in the place of what it replaces."""
    whom = POPULATION.search(body)
    if whom and not specific(POPULATION.sub(" ", body)):
        return _for_whom(last, body)
    if attribute(body) and not specific(body):
        return _property(turns, last, body)
    counted = _ANAPHOR.search(body)
    if counted and (meant := _counted(turns, counted)):
        return f"{_main(last)}, and what about {meant.entity}"
    first, _, rest = body.partition(" ")
    if first.lower() in PREPOSITIONS and rest:
        return _placed(last, first.lower(), rest)
    if not opening and not _mentioned(turns, body) and len(body.split()) > 3:
        return None
    if body.lower() in MANNERS:
        return f"{_main(last)}, {body}"
    if CONDITION.search(body):
        return f"{_main(last)} with {body}"
    return _renamed(last, body)


def _mentioned(turns: Sequence[Turn], body: str) -> bool:
    return _continues(turns, body)


def _for_whom(last: str, body: str) -> str:
    first, _, rest = body.partition(" ")
    given = first.lower() if first.lower() in PREPOSITIONS and rest else ""
    name = rest if given else body
    old = POPULATION.search(last)
    if not old:
        return f"{_main(last)} {given or 'in'} {name}"
    before, after = last[: old.start()], last[old.end() :]
    placed = re.search(r"\b(\w+) (?:an? |the )?$", before)
    if placed and placed[1].lower() in PREPOSITIONS:
        kept = before[: placed.start()]
        return f"{kept}{placed[1]} {name}{after}"
    return f"{_main(f'{before}{after}')} {given or 'in'} {name}"


def _property(turns: Sequence[Turn], last: str, body: str) -> str:
    about = _topic(turns, last, body)
    name = re.sub(r"^(?:(?:what|which|the|any|an?|its|their)\s+)+", "", body, flags=re.IGNORECASE)
    name = re.sub(
        r"^(?:maximum|minimum|maximal)\b(?! dose)", r"\g<0> dose", name, flags=re.IGNORECASE
    )
    be = "are" if _before_preposition(name)[0].endswith("s") else "is"
    asked = f"what {be} the {name[0].lower()}{name[1:]}"
    return _joined(asked, about) if about else f"{_main(last)}: {body}"


def _before_preposition(text: str) -> tuple[str, str]:
    """A phrase up to its first preposition, and from there."""
    for token in tokens(text)[1:]:
        if token.group().lower() in PREPOSITIONS or token.group().lower() == "going":
            return text[: token.start()].strip(), text[token.start() :]
    return text, ""


def _placed(last: str, preposition: str, rest: str) -> str:
    """The last question with a phrase of the same or a like preposition replaced."""
    like = next((group for group in _ALIKE if preposition in group), {preposition})
    there = [phrase for phrase in phrases(last) if not phrase.population]
    found = [phrase for phrase in there if phrase.preposition == preposition] or [
        phrase for phrase in there if phrase.preposition in like
    ]
    found = found or [
        phrase for phrase in there if phrase.preposition and kind(phrase.text) == kind(rest) != ""
    ]
    if not found:
        return f"{_main(last)} {preposition} {rest}"
    old = found[-1]
    name = re.sub(r"\bones?\b$", _head(old.text), rest)
    begin = last.lower().rfind(old.preposition, 0, old.start)
    attached = [p.end for p in phrases(last) if p.start > old.end and p.preposition == "with"]
    return f"{last[:begin]}{preposition} {name}{last[max([old.end, *attached]) :]}"


def _head(text: str) -> str:
    """The noun that "one" stands for: the last word before a preposition."""
    found = [match.group() for match in tokens(text)]
    cut = next(
        (i for i, word in enumerate(found) if i and word.lower() in PREPOSITIONS), len(found)
    )
    return found[cut - 1]


def _renamed(last: str, body: str) -> str:
    """The last question asked of another drug or disease; of something else beside it."""
    name = re.sub(r"^(?:the|an?) ", "", body, flags=re.IGNORECASE)
    named = [phrase for phrase in phrases(last) if phrase.specific and not phrase.population]
    alike = [phrase for phrase in named if kind(phrase.text) == kind(name)]
    if not alike:
        return f"{_main(last)}, and what about {body}"
    old = bare(alike[0].text)
    start = last.find(old, alike[0].start)
    return f"{last[:start]}{name}{last[start + len(old) :]}"


def _spliced(last: str, asked: str) -> str:
    """The last question with another question word: "How is gout treated?", "For how long?"."""
    main = _main(last)
    found = tokens(main)
    at = next((i for i, t in enumerate(found) if t.group().lower() in AUXILIARIES), None)
    if at is None:
        return f"{asked}: {main[0].lower()}{main[1:]}"
    subject = main[: found[at].start()].strip()
    noun = re.sub(r"^(?:\w+ )?(?:what|which) ?", "", subject, flags=re.IGNORECASE)
    rest = main[found[at].end() :].strip()
    if asked.lower() == "why not":
        asked, rest = "Why", _negated(rest)
    if noun == subject or not noun:
        return f"{asked} {found[at].group().lower()} {rest}"
    return f"{asked} {found[at].group().lower()} the {noun} {rest}"


def _negated(rest: str) -> str:
    at = next((t.start() for t in tokens(rest) if verb(t.group().lower())), len(rest))
    return f"{rest[:at]}not {rest[at:]}"


# -- clauses --------------------------------------------------------------------------------------


def _clause(turns: Sequence[Turn], opening: str, body: str) -> str | None:
    """A clause with its pronouns resolved, or what it leaves out added; None when complete."""
    leaning = _leaning(body)
    if leaning:
        return _resolved(turns, body, leaning)
    if _complete(turns, opening, body):
        return None
    about = _topic(turns, _base(turns, body).question, body, "typed")
    return _joined(body, about) if about else None


def _leaning(body: str) -> re.Match[str] | None:
    """The first word that stands for something said before; None when the clause names it."""
    free = {match.start() for match in _EXPLETIVE.finditer(body)}
    spans = [(match.start(), match.end()) for match in _EXPLETIVE.finditer(body)]
    for match in _ANAPHOR.finditer(body):
        if any(start <= match.start() < end for start, end in spans) or match.start() in free:
            continue
        if _antecedent(body, match) or not _stands_for(body, match):
            continue
        return match
    return None


def _antecedent(body: str, match: re.Match[str]) -> bool:
    before = _ASKED_OF.sub("", body[: match.start()])
    people = match.group().lower() in {"they", "them", "their"} and re.search(
        r"\b(?:patients?|people|parents?|doctors?|nurses?)\b", before
    )
    return (
        bool(specific(before))
        or bool(people)
        or bool(POPULATION.search(before) and match.group().lower() in {"they", "them", "their"})
    )


def _stands_for(body: str, match: re.Match[str]) -> bool:
    """Whether "that", "this", "one" is a pronoun here and no article, conjunction or numeral."""
    word = match.group().lower()
    before = [token.group().lower() for token in tokens(body[: match.start()])]
    after = [token.group().lower() for token in tokens(body[match.end() :])]
    if (
        word == "they"
        and before
        and before[-1] in {"do", "can", "should", "will"}
        and _again(body, match)
    ):
        return False
    named = re.search(rf"{_NOUN}$", word)
    if named and after and (specific(after[0]) or attribute(after[0])):
        return False
    if before[-2:] in (["which", "of"], ["what", "of"]) and word != "them":
        return False
    if word == "one":
        return not after or after[0] in {"be", "?", "in", "have"} and before[-1] not in AUXILIARIES
    if word in {"this", "that", "these", "those"}:
        free = not after or verb(after[0]) or after[0] in PREPOSITIONS or not after[0][0].isalnum()
        led = not before or before[-1] in _DETERMINED or word != "that" or verb(before[-1])
        return led and (
            free or after[0] in {"too", "safe", "early", "late", "dangerous", "still", "also"}
        )
    return True


def _again(body: str, match: re.Match[str]) -> bool:
    return bool(_ANAPHOR.search(body, match.end()))


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
    known = set(_stems(specific(f"{turns[-1].question} {turns[-1].answer}")))
    return all(
        re.match(r"(?:the|that|this)\b", phrase.text, re.IGNORECASE)
        and set(_stems(specific(phrase.text))) <= known
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
    about = _counted(turns, match) or _many(turns, body, match)
    about = about or _topic(turns, turns[-1].question, body)
    if about is None:
        return None
    entity, rest = about.entity, body[match.end() :]
    if DRUG_ASKED.search(body) and kind(entity) == "disease":
        entity = f"the treatment of {entity}"
    if match.group().lower() in {"its", "their"}:
        owned, rest = _owned(rest)
        entity = f"the {owned} of {entity}"
    return _with_rest(f"{body[: match.start()]}{entity}{rest}", about)


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
    names = [_uncapped(item) for item in items[:3]]
    return Topic(f"{', '.join(names[:-1])} and {names[-1]}", _tail(topic(turns[-1].question)))


def _counted(turns: Sequence[Turn], match: re.Match[str]) -> Topic | None:
    """The topic that "the second one" means: of the last answer's list, else of the turns."""
    nth = match["nth"]
    if not nth:
        return None
    last = topic(turns[-1].question)
    items = listed(turns[-1].answer)
    if len(items) > 1:
        around = _tail(last)
    else:
        items = tuple(found.entity for turn in turns if (found := topic(turn.question)))
        around = ()
    place = _ORDINALS[nth.lower()]
    return Topic(_uncapped(items[place]), around) if -len(items) <= place < len(items) else None


def _tail(about: Topic | None) -> tuple[Phrase, ...]:
    if about is None:
        return ()
    return (Phrase("in" if kind(about.entity) != "drug" else "with", about.entity, 0, 0),)


def _topic(turns: Sequence[Turn], question: str, body: str, otherwise: str = "") -> Topic | None:
    """What a follow-up is about; a drug of the last answer when it asks what one asks of drugs."""
    wanted = _wanted(body) or otherwise
    about = topic(question, wanted)
    if about is None:
        earlier = (topic(turn.question, wanted) for turn in reversed(turns))
        return next((found for found in earlier if found), None)
    if wanted == "drug" and kind(about.entity) != "drug" and question == turns[-1].question:
        told = drugs(turns[-1].answer)
        if told and not drugs(body):
            return Topic(_uncapped(told[0]), (*_tail(about), *about.around))
    return about


def _wanted(body: str) -> str:
    if DRUG_ASKED.search(body):
        return "drug"
    return "disease" if DISEASE_ASKED.search(body) else ""


def _uncapped(name: str) -> str:
    return name.lower() if name[1:].islower() else name


def _joined(body: str, about: Topic) -> str:
    """A clause with its topic added: "What are the symptoms" of it, "who is at risk" for it."""
    entity = about.entity
    if re.search(r"\b(?:risk|eligible|suitable|responsible)$", body):
        link = "for"
    elif (found := _ASKED_PROPERTY.match(body)) and attribute(found["name"]):
        head, rest = _before_preposition(found["name"])
        if DRUG_ASKED.search(body) and kind(entity) == "disease":
            return _with_rest(f"{body} in {entity}", about)
        return _with_rest(f"{body[: found.start('name')]}{head} of {entity} {rest}".strip(), about)
    else:
        link = "with" if kind(entity) == "drug" else "in"
    return _with_rest(f"{body} {link} {entity}", about)


def _with_rest(text: str, about: Topic) -> str:
    """``text`` with what stood around the topic, unless it says so itself or names others."""
    for phrase in about.around:
        new = set(_stems(specific(phrase.text))) - set(_stems(specific(text)))
        if phrase.population:
            if not POPULATION.search(text):
                text = f"{text} {phrase}"
        elif new:
            text = f"{text} {phrase}"
    return text


def _main(question: str) -> str:
    """A question without its end mark and without a relative clause at its end."""
    main = question.rstrip(" ?.!;:,")
    return re.sub(r",? (?:who|that|which) (?:\w+ ){0,5}\w+$", "", main) or main


def _tidy(text: str) -> str:
    text = " ".join(text.split())
    text = re.sub(r"\s+([?,.;:])", r"\1", text).rstrip(" ?.!;:,")
    return f"{text[0].upper()}{text[1:]}?"
