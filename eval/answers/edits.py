"""What is done to a sentence to test the citation check: swaps that change it, and paraphrases.

Written without the check's own word lists and parsers, so that it is not tested on what it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

SwapKind = Literal["dose", "number", "unit", "negation", "laterality", "drug", "population"]
Edit = Callable[[str, str, np.random.Generator], str | None]

_DOSE_UNIT = r"(?:mg|g|mcg|micrograms?|mL|ml|units?|IU|mmol|mg/kg|mL/kg|units/kg|g/kg|ug|µg|μg)"
_DOSE = re.compile(rf"(?<![\w.,/-])(\d+(?:\.\d+)?)(?=\s?{_DOSE_UNIT}(?![\w^]))")
_NUMBER = re.compile(r"(?<![\w.,/(\[-])(\d+(?:\.\d+)?)(?![\w,^/)]|\.\d|-[A-Za-z]?\d)")
_COUNT_WORDS = re.compile(
    r"\b(two|three|four|five|six|seven|eight|ten|twice|once)\b(?=\s(?!of\b|or\b|and\b))"
)
_OTHER_WORD = {
    "two": "four", "three": "five", "four": "two", "five": "eight", "six": "three", "seven": "nine",
    "eight": "four", "ten": "six", "twice": "three times", "once": "twice",
}  # fmt: skip
_UNITS = {
    "mg": "g", "g": "mg", "mcg": "mg", "micrograms": "mg", "mL": "L", "ml": "l", "hours": "days",
    "hour": "day", "minutes": "hours", "days": "weeks", "day": "week", "weeks": "months",
    "week": "month", "months": "weeks", "month": "week", "years": "months", "year": "month",
    "mmol/L": "mg/L", "cm": "mm", "mm": "cm", "kg": "g", "mg/kg": "mg", "µg": "mg", "μg": "mg",
    "µm": "mm", "inches": "feet", "mg/dL": "g/dL", "mg/day": "g/day", "percent": "per thousand",
}  # fmt: skip
_UNIT = re.compile(
    r"(?<=\d)(\s?-?)(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + r")(?![\w/^])"
)
_SIDES = (
    ("left", "right"), ("upper", "lower"), ("proximal", "distal"), ("anterior", "posterior"),
    ("medial", "lateral"), ("superior", "inferior"), ("unilateral", "bilateral"),
    ("dorsal", "ventral"),
)  # fmt: skip
_SIDE_EXCEPT = re.compile(r"\bright (?:away|now|amount|time)|\bleft untreated|\bbeen left", re.I)
_PEOPLE = (
    ("adults", "children"), ("adult", "child"), ("men", "women"), ("infants", "adults"),
    ("newborns", "older adults"), ("newborn", "adult"), ("boys", "girls"), ("infant", "adult"),
    ("pediatric", "adult"), ("paediatric", "adult"), ("elderly", "young"), ("male", "female"),
    ("males", "females"), ("babies", "adults"), ("pregnant women", "older men"),
    ("adolescents", "infants"), ("teenagers", "infants"), ("woman", "man"), ("child", "adult"),
)  # fmt: skip
_DRUGS = tuple(
    group.split()
    for group in (
        "amoxicillin azithromycin doxycycline ceftriaxone vancomycin meropenem clarithromycin "
        "ciprofloxacin flucloxacillin metronidazole clindamycin gentamicin penicillin linezolid "
        "piperacillin erythromycin tetracycline levofloxacin rifampicin isoniazid fosfomycin",
        "apixaban rivaroxaban warfarin enoxaparin dalteparin heparin clopidogrel ticagrelor "
        "aspirin dabigatran edoxaban prasugrel",
        "metformin gliclazide dapagliflozin empagliflozin insulin sitagliptin pioglitazone "
        "glucagon liraglutide semaglutide",
        "bisoprolol metoprolol amiodarone digoxin ramipril spironolactone furosemide losartan "
        "atorvastatin simvastatin amlodipine verapamil diltiazem propranolol lisinopril "
        "atenolol",
        "prednisolone dexamethasone hydrocortisone prednisone methotrexate azathioprine "
        "infliximab adalimumab etanercept rituximab tocilizumab hydroxychloroquine",
        "paracetamol ibuprofen morphine codeine tramadol naproxen acetaminophen ketamine fentanyl",
        "nivolumab pembrolizumab ipilimumab atezolizumab durvalumab avelumab cetuximab "
        "trastuzumab bevacizumab imatinib sorafenib erlotinib gefitinib sunitinib dasatinib "
        "cisplatin carboplatin doxorubicin paclitaxel docetaxel tamoxifen olaparib nintedanib",
        "fluoxetine sertraline citalopram haloperidol risperidone diazepam lorazepam midazolam "
        "phenytoin levetiracetam carbamazepine valproate lamotrigine gabapentin levodopa "
        "lithium",
        "erenumab galcanezumab fremanezumab eptinezumab teplizumab dupilumab omalizumab "
        "evolocumab alirocumab denosumab burosumab emicizumab eculizumab",
        "salbutamol ipratropium adrenaline montelukast budesonide fluticasone ondansetron "
        "aciclovir allopurinol rasburicase colchicine octreotide cabergoline testosterone "
        "levothyroxine",
    )
)
_FLIPS = (
    ("increases", "decreases"), ("increased", "decreased"), ("increase", "decrease"),
    ("reduces", "raises"), ("reduced", "increased"), ("reduce", "increase"), ("higher", "lower"),
    ("before", "after"), ("safe", "unsafe"), ("effective", "ineffective"), ("high", "low"),
    ("starts", "stops"), ("above", "below"), ("more than", "less than"), ("positive", "negative"),
)  # fmt: skip
_MODAL = re.compile(
    r"\b(should|must|may|can|is|are|was|were|does|do|has|have|will|could)\b(?! not\b)"
)
_DENIALS = (
    (re.compile(r"\b(is|are|was|were|should|must|may|can|will|do|does|did|have) not\b"), r"\1"),
    (re.compile(r"\bcannot\b"), "can"),
    (re.compile(r"\bDo not (\w)"), lambda m: m[1].upper()),
    (re.compile(r"\bwithout\b"), "with"),
    (re.compile(r"\bAvoid\b"), "Use"),
    (re.compile(r"\bavoid\b"), "use"),
    (re.compile(r"\bnever\b"), "always"),
    (re.compile(r"\bno (?=[a-z])(?!longer|more|less|later|doubt)"), ""),
    (re.compile(r"\bcontraindicated\b"), "indicated"),
)  # fmt: skip


def _one(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def _put(text: str, match: re.Match[str], new: str, group: int = 0) -> str:
    return text[: match.start(group)] + new + text[match.end(group) :]


def _pick(rng: np.random.Generator, found: list[re.Match[str]]) -> re.Match[str] | None:
    return found[int(rng.integers(len(found)))] if found else None


def _other_number(old: str, others: Sequence[str], rng: np.random.Generator) -> str:
    """A number of the passage for preference, else a plausible one: half, double, tenfold."""
    choice = sorted({n for n in others if float(n) != float(old)})
    if choice:
        return _one(rng, choice)
    value = float(old)
    return f"{_one(rng, [str(value * 2), str(value * 10), str(value / 2)])}".removesuffix(".0")


def swap_dose(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """An amount of a drug, fluid or salt becomes another."""
    match = _pick(rng, list(_DOSE.finditer(text)))
    if match is None or float(match[1]) == 0:
        return None
    unit = text[match.end() :].split()[:1]
    others = [m[1] for m in _DOSE.finditer(passage) if passage[m.end() :].split()[:1] == unit]
    return _put(text, match, _other_number(match[1], others, rng))


def swap_number(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """A duration, count, share, threshold or frequency becomes another."""
    doses = {m.start() for m in _DOSE.finditer(text)}
    found = [m for m in _NUMBER.finditer(text) if m.start() not in doses and 0 < float(m[1]) < 1900]
    found += list(_COUNT_WORDS.finditer(text))
    match = _pick(rng, found)
    if match is None:
        return None
    if match[1] in _OTHER_WORD:
        return _put(text, match, _OTHER_WORD[match[1]])
    others = [m[1] for m in _NUMBER.finditer(passage) if 0 < float(m[1]) < 1900]
    return _put(text, match, _other_number(match[1], others, rng))


def swap_unit(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """The unit of a number becomes another of its kind."""
    match = _pick(rng, list(_UNIT.finditer(text)))
    return None if match is None else _put(text, match, _UNITS[match[2]], 2)


def swap_negation(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """A denial goes or comes, or a word of direction becomes its opposite."""
    made = [p.sub(new, text, count=1) for p, new in _DENIALS if p.search(text)]
    flip = _exchange(text, _FLIPS, rng)
    made += [flip] if flip else []
    if not made or rng.random() < 0.4:
        match = _MODAL.search(text)
        if match:
            made.append(_put(text, match, f"{match[1]} not"))
    return _one(rng, made) if made else None


def swap_laterality(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """A side becomes the other."""
    return None if _SIDE_EXCEPT.search(text) else _exchange(text, _SIDES, rng)


def swap_population(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """A group of people becomes another."""
    return _exchange(text, _PEOPLE, rng)


def _exchange(text: str, pairs: Sequence[tuple[str, str]], rng: np.random.Generator) -> str | None:
    found = [
        (match, other)
        for pair in pairs
        for word, other in (pair, pair[::-1])
        for match in re.finditer(rf"\b{word}\b", text, re.IGNORECASE)
    ]
    if not found:
        return None
    match, other = found[int(rng.integers(len(found)))]
    return _put(text, match, other.capitalize() if match[0][0].isupper() else other)


def swap_drug(text: str, passage: str, rng: np.random.Generator) -> str | None:
    """A drug becomes another of its group, one of the passage for preference."""
    found = [
        (match, group)
        for group in _DRUGS
        for name in group
        for match in re.finditer(rf"\b{name}\b", text, re.IGNORECASE)
    ]
    if not found:
        return None
    match, group = found[int(rng.integers(len(found)))]
    free = [name for name in group if name not in text.lower()]
    beside = _beside(match[0].lower(), passage)
    far = [name for name in free if name not in beside]
    near = [name for name in far if name in passage.lower()]
    if not far:
        return None
    other = _one(rng, near or far)
    return _put(text, match, other.capitalize() if match[0][0].isupper() else other)


def _beside(drug: str, passage: str) -> str:
    """Sentences that name the drug: what they say may hold for another that they name too."""
    near = [s for s in re.split(r"(?<=[.;])\s", passage.lower()) if drug in s]
    same = {"acetaminophen": "paracetamol", "paracetamol": "acetaminophen"}
    return " ".join([*near, same.get(drug, "")])


SWAPS: dict[SwapKind, Edit] = {
    "dose": swap_dose,
    "number": swap_number,
    "unit": swap_unit,
    "negation": swap_negation,
    "laterality": swap_laterality,
    "drug": swap_drug,
    "population": swap_population,
}

# -- paraphrases ----------------------------------------------------------------------------------

_SYNONYMS = {
    "start": "begin", "started": "begun", "doctor": "physician", "doctors": "physicians",
    "often": "frequently", "usually": "generally", "caused by": "due to", "symptoms": "signs",
    "illness": "disease", "about": "approximately", "such as": "for example", "help": "aid",
    "medicine": "drug", "medicines": "drugs", "shown": "demonstrated", "most": "the majority of",
    "receive": "are given", "because": "since", "also": "in addition", "but": "yet",
    "treated": "managed", "called": "known as", "used": "employed", "affects": "involves",
    "happens": "occurs", "may": "can", "measured": "determined", "avoided": "not used",
    "every 12 hours": "twice daily", "every 8 hours": "three times daily", "24 hours": "1 day",
    "twice daily": "every 12 hours", "percent": "%", "%": " per cent", "7 days": "one week",
}  # fmt: skip
_DROPPED = re.compile(
    r"\b(?:usually|often|generally|also|very|clearly|normally|typically|commonly|however,|"
    r"therefore|quickly|sometimes|currently|recently|in general,|mainly|frequently|well) ",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"^((?:In|For|If|When|After|Before|With|During|Without)\b[^,;:]{4,80}), ([a-zA-Z])(.+?)\.$"
)
_ORDER = re.compile(
    r"^(Do not g|G)ive ([^,.;:]{3,60}?)((?: (?:every|for|to|over|by|in|if|with|at)\b.*)?)\.$"
)


def paraphrase(text: str, rng: np.random.Generator) -> str | None:
    """The same in other words and order; None when no rule finds anything to change."""
    new = _moved(_passive(_DROPPED.sub("", text)))
    found = [old for old in _SYNONYMS if re.search(_whole(old), new)]
    for i in rng.permutation(len(found))[:2]:
        new = re.sub(_whole(found[int(i)]), _SYNONYMS[found[int(i)]], new, count=1)
    new = new[:1].upper() + new[1:]
    return new if new != text else None


def _whole(phrase: str) -> str:
    return re.escape(phrase) + r"\b" if phrase[0].isalpha() else r"(?<=\d)\s?" + re.escape(phrase)


def _passive(text: str) -> str:
    match = _ORDER.match(text)
    if not match:
        return text
    verb = "should not be" if match[1].startswith("Do") else "should be"
    return f"{match[2]} {verb} given{match[3]}."


def _moved(text: str) -> str:
    """A leading circumstance goes to the end."""
    match = _LEADING.match(text)
    if not match:
        return text
    return f"{match[2].upper()}{match[3]} {match[1][0].lower()}{match[1][1:]}."
