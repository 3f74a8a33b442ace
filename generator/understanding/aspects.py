"""What a sentence may state of a drug or a condition, and the question that asks for it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

DRUG_MARK = "\x01"
"""Stands in a sentence for the drug that is asked about."""


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing that may be stated.

    said    finds it in a sentence; its group ``words``, if any, stands in the question as written
    asks    the question about ``{topic}``, and where ``{where}`` it is looked for
    asked   further words by which it shows that a text speaks of it
    """

    said: re.Pattern[str]
    asks: str
    asked: re.Pattern[str]

    def question(self, sentence: str, topic: str, where: str = "") -> str:
        """What asks for it; empty when ``sentence`` does not state it.

        >>> OF_A_CONDITION[0].question("In penicillin allergy give X.", "sepsis")
        'What is given in penicillin allergy for sepsis?'
        """
        match = self.said.search(sentence)
        if not match:
            return ""
        return self.asks.format(topic=topic, where=where, **match.groupdict())

    def heard(self, text: str, sentence: str) -> bool:
        """Whether ``text`` speaks of what ``sentence`` states."""
        match = self.said.search(sentence)
        words = match.groupdict().get("words") if match else None
        if words:
            return words.lower() in text.lower()
        return bool(self.said.search(text) or self.asked.search(text))


def _aspect(said: str, asks: str, asked: str = r"(?!)") -> Aspect:
    return Aspect(re.compile(said), asks, re.compile(asked, re.IGNORECASE))


_FOR_DAYS = r"\bfor (?:at least |up to |another )?\d+(?: to \d+)? (?:days|weeks|months)\b"
_HOW_LONG = r"\bhow long\b|\bdays\b|\bweeks\b"
_KIDNEY = (
    r"\b(?P<words>(?:acute |chronic |severe )?(?:kidney|renal) "
    r"(?:injury|impairment|failure|disease)|dialysis)\b"
)
_PEOPLE = r"\b(?P<words>children|infants|neonates|newborns|pregnancy|breast-?feeding)\b"

OF_A_DRUG = (
    _aspect(_KIDNEY, "What happens with {topic} in {words}?"),
    _aspect(_PEOPLE, "How is {topic} used in {words}?"),
    _aspect(
        rf"{DRUG_MARK} (?:is|are|must be) (?:not (?:given|used|started)|contraindicated|avoided)"
        rf"|\b(?:[Dd]o not|[Nn]ever) (?:give|use|start) {DRUG_MARK}|\b[Aa]void {DRUG_MARK}",
        "When is {topic} not given{where}?",
    ),
    _aspect(
        rf"{DRUG_MARK} (?:is|are|must be) (?:stopped|withheld|omitted|paused)"
        rf"|\b(?:[Ss]top|[Pp]ause|[Oo]mit|[Ww]ithhold) {DRUG_MARK}",
        "When is {topic} stopped?",
        r"\bstop",
    ),
    _aspect(
        rf"{DRUG_MARK}.{{0,30}}\b(?:restarted|resumed)|\b[Rr]estart {DRUG_MARK}",
        "When is {topic} restarted?",
        r"\brestart|\bresum",
    ),
    _aspect(
        rf"{DRUG_MARK}.{{0,60}}\b(?:checked|measured|monitored)\b"
        rf"|\b(?:checked|measured|monitored|repeated)\b.{{0,60}}{DRUG_MARK}",
        "What is checked during treatment with {topic}?",
    ),
    _aspect(
        r"\b(?P<words>loading|maintenance|maximum) dose\b", "What is the {words} dose of {topic}?"
    ),
    _aspect(r"\b[Ii]nteractions?\b", "What interactions does {topic} have?"),
    _aspect(
        rf"{DRUG_MARK} \d[\d.,]*(?: to \d[\d.,]*)? ?(?:mg|g|micrograms?|units?|mL|mmol)\b",
        "What is the dose of {topic}{where}?",
        r"\bdose\b",
    ),
    _aspect(
        rf"{DRUG_MARK}.{{0,60}}{_FOR_DAYS}",
        "For how long is {topic} given{where}?",
        _HOW_LONG,
    ),
    _aspect(
        rf"\boverdose\b.{{0,60}}{DRUG_MARK}|{DRUG_MARK}.{{0,60}}\boverdose\b",
        "What is done after an overdose of {topic}?",
    ),
)
OF_A_CONDITION = (
    _aspect(
        r"\b(?P<words>(?:severe )?[a-z]{4,20} allergy)\b",
        "What is given in {words} for {topic}?",
        r"\ballerg",
    ),
    _aspect(_KIDNEY, "What is done about {topic} in {words}?"),
    _aspect(_PEOPLE, "How is {topic} treated in {words}?"),
    _aspect(
        rf"\b(?:treat|antibiotic|given|[Gg]ive).{{0,60}}{_FOR_DAYS}",
        "For how long is {topic} treated?",
        _HOW_LONG,
    ),
    _aspect(
        r"\b(?:checked|measured|monitored|repeated|[Mm]easure|[Cc]heck)\b",
        "What is checked in {topic}?",
    ),
    _aspect(
        r"\b[Gg]ive\b|\bis given\b|\btreated with\b",
        "How is {topic} treated?",
        r"\btreat",
    ),
)
