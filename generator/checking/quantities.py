"""The quantities that a clinical text states, in units that can be compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from siloquy.generator.words.stems import lower

Bound = Literal["", "up", "down"]

_UNITS: dict[str, tuple[float, str]] = {}
for _kind, _factor, _names in (
    ("mass", 1e6, "kg kilogram kilograms"),
    ("mass", 1e3, "g gram grams gm"),
    ("mass", 1.0, "mg milligram milligrams"),
    ("mass", 1e-3, "mcg ug microgram micrograms"),
    ("mass", 1e-6, "ng nanogram nanograms"),
    ("volume", 1e3, "l litre litres liter liters"),
    ("volume", 1e2, "dl decilitre decilitres"),
    ("volume", 1.0, "ml millilitre millilitres milliliter milliliters cc"),
    ("volume", 1e-3, "ul microlitre microlitres microliter microliters"),
    ("units", 1.0, "unit units iu u"),
    ("units", 1e-3, "mu milliunits"),
    ("amount", 1.0, "mmol millimol"),
    ("amount", 1e-3, "umol micromol"),
    ("amount", 1e-6, "nmol nanomol"),
    ("amount", 1e-9, "pmol"),
    ("charge", 1.0, "meq"),
    ("time", 1 / 3600, "s sec secs second seconds"),
    ("time", 1 / 60, "min mins minute minutes"),
    ("time", 1.0, "h hr hrs hour hours"),
    ("time", 24.0, "d day days night nights"),
    ("time", 168.0, "wk wks week weeks"),
    ("time", 730.5, "month months"),
    ("time", 8766.0, "y yr yrs year years"),
    ("share", 1.0, "% percent"),
    ("length", 10.0, "cm centimetre centimetres centimeter centimeters"),
    ("length", 1.0, "mm millimetre millimetres millimeter millimeters"),
    ("length", 1e-3, "um micrometer micrometers"),
    ("length", 1e3, "m metre metres"),
    ("pressure", 1.0, "mmhg"),
    ("kilopascal", 1.0, "kpa"),
    ("warmth", 1.0, "°c celsius degrees"),
    ("fahrenheit", 1.0, "°f fahrenheit"),
    ("energy", 1.0, "kcal calories"),
    ("joule", 1.0, "j"),
    ("gray", 1.0, "gy"),
    ("area", 1.0, "m2"),
):
    _UNITS |= dict.fromkeys(_names.split(), (_factor, _kind))

DOSES = frozenset({"mass", "volume", "units", "amount", "charge"})
"""What is measured out to a patient; ``dimension`` may go on with '/': 'mass/kg'."""

_WORDS = {
    word: float(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0, "ninety": 90.0}
_OFTEN = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
_FRACTIONS = {"half": 50.0, "third": 100 / 3, "quarter": 25.0, "fifth": 20.0, "tenth": 10.0}
_LATIN = {"od": 1, "qd": 1, "bd": 2, "bid": 2, "tds": 3, "tid": 3, "qds": 4, "qid": 4}
_PER_SO_MANY = {"thousand": 0.1, "1000": 0.1, "million": 1e-4, "100000": 1e-3}
_PERIODS = {
    "hour": 1.0,
    "day": 24.0,
    "dai": 24.0,
    "night": 24.0,
    "week": 168.0,
    "month": 730.5,
    "year": 8766.0,
    "annual": 8766.0,
    "minute": 1 / 60,
}

_PLAIN = str.maketrans("\u2013\u2014\u2212\u2011\xb5\u03bc\xd7\xa0\u202f\u2009", "----uux   ")
_N = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_NW = rf"(?:{_N}|\b(?:{'|'.join(_WORDS)})\b)"
_U = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_UNIT = (
    r"(?:x\s?10\^?\d{1,2}(?:/l)?|10\^\d{1,2}/l|per\s?cent|international units"
    rf"|per\s(?:thousand|hundred|million|100,?000|1,?000|100)|{_U})(?![a-z0-9])"
)
_PERIOD = r"(?:minute|hour|day|night|week|month|year)s?"
_LY = r"(?:hourly|daily|nightly|weekly|monthly|yearly|annually)"
_RANGE = rf"(?P<low>{_NW})(?:\s?{_UNIT})?\s?(?:-|to|or)\s?(?P<high>{_NW})|(?P<only>{_NW})"

_DATE = re.compile(
    r"\b(?:19|20)\d\d-\d\d(?:-\d\d)?\b|\b\d{1,2}/\d{1,2}/(?:19|20)\d\d\b"
    r"|\b(?:\d{1,2}\s)?(?:january|february|march|april|may|june|july|august|september|october"
    r"|november|december)\s(?:\d{1,2},\s)?(?:19|20)\d\d\b"
)
_EVERY = re.compile(rf"\b(?:every|each)\s(?:(?:{_RANGE})\s)?(?P<period>{_PERIOD})\b")
_SHORT_EVERY = re.compile(r"\bq(?P<low>\d{1,2})(?:-(?P<high>\d{1,2}))?h\b")
_HOURLY = re.compile(rf"\b(?:{_RANGE})[\s-](?P<period>hourly|weekly|monthly)\b")
_TIMES = re.compile(
    rf"\b(?:(?P<often>once|twice|thrice)|(?:{_RANGE})\stimes)\s"
    rf"(?:(?:a|an|per|each|every)\s(?P<period>{_PERIOD})|(?P<ly>{_LY}))\b"
)
_LATIN_TIMES = re.compile(
    r"\b(?P<latin>od|qd|bd|bid|tds|tid|qds|qid|b\.i?\.?d\.|t\.[id]\.[sd]\.)(?!\w)"
)
_BARE = re.compile(rf"\b(?P<ly>{_LY})\b(?!\s(?:life|living|activit|basis|practice|routine|use\b))")
_ONE_IN = re.compile(
    rf"(?P<part>{_NW})\s(?:in|out of)\s(?:every\s)?(?P<whole>{_NW})\b(?!\s?{_UNIT})"
)
_FRACTION = re.compile(
    r"\b(?:(?P<part>a|one|two|three)[\s-])?(?P<name>half|third|quarter|fifth|tenth)s?\s(?:of|the)\b"
)
_AMOUNT = re.compile(
    rf"(?<![\w.^\[])(?<![a-z]-)(?:between\s(?P<from>{_NW})(?:\s?{_UNIT})?\sand\s(?P<till>{_NW})"
    rf"|{_RANGE})(?:[\s-]?(?P<unit>{_UNIT}))?(?P<per>(?:\s?(?:/|\bper\s|\ban?\s)\s?"
    rf"(?:24\s?)?(?:{_U})(?![a-z0-9]))*)(?![\w^]|-[a-z]?\d)"
)
_PER = re.compile(rf"(?:/|\bper\s|\ban?\s)\s?(?:24\s?)?(?P<unit>{_U})(?![a-z0-9])")
_UP = re.compile(
    r"(?:>|≥|>=|above|over|more than|greater than|higher than|older than|longer than|exceed\w*|"
    r"at least|not less than|no less than|no earlier than|not before|minimum(?: of)?|from)\s?$"
)
_DOWN = re.compile(
    r"(?:<|≤|<=|below|under|(?<!not )(?<!no )less than|fewer than|lower than|younger than|"
    r"shorter than|at most|up to|(?:no|not) (?:more|later|longer|greater|higher) than|"
    r"maximum(?: of)?|max|must not exceed|not exceed)\s?$"
)
_UP_AFTER = re.compile(r"\s?(?:or|and) (?:more|above|over|higher|older|longer|greater)\b|\s?\+")
_DOWN_AFTER = re.compile(r"\s?(?:or|and) (?:less|below|under|lower|younger|fewer)\b")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or a range with what it counts, in base units: mg, mL, hours, per hour, %.

    dimension   'mass', 'time', 'mass/kg', 'frequency', 'year', ...; empty for a plain number
    bound       whether it is a lower ('up') or an upper ('down') limit
    said        the numbers as they are written, whatever their unit
    start, end  where it stands
    """

    low: float
    high: float
    dimension: str
    bound: Bound = field(default="", compare=False)
    said: tuple[float, float] = field(default=(0.0, 0.0), compare=False)
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def measured_out(self) -> bool:
        """Whether it is an amount that may be given; a concentration is a laboratory's value."""
        kind, _, per = self.dimension.partition("/")
        return kind in DOSES and per != "volume"


def quantities(text: str) -> list[Quantity]:
    """Every quantity of ``text`` in order of appearance; frequencies are times per hour.

    >>> [(q.low, q.high, q.dimension) for q in quantities("1 g every 6 to 8 hours for 2 days")]
    [(1000.0, 1000.0, 'mass'), (0.125, 0.166667, 'frequency'), (48.0, 48.0, 'time')]
    """
    plain = lower(text.translate(_PLAIN))
    found: list[Quantity] = []
    for pattern, read in _READERS:
        for match in pattern.finditer(plain):
            found += read(match)
        plain = pattern.sub(lambda match: "\x01" * len(match[0]), plain)
    found += [q for match in _AMOUNT.finditer(plain) for q in _amounts(match, plain)]
    return sorted(found, key=lambda q: (q.start, q.end))


def same(a: Quantity, b: Quantity) -> bool:
    """Whether two quantities are equal; a number without a unit fits the same number with one."""
    if a.dimension == b.dimension:
        return (
            _near(a.low, b.low) and _near(a.high, b.high) and {a.bound, b.bound} != {"up", "down"}
        )
    return (
        "" in (a.dimension, b.dimension)
        and a.said == b.said
        and "year"
        not in (
            a.dimension,
            b.dimension,
        )
    )


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-3 * max(abs(a), abs(b))


def _value(word: str) -> float:
    return _WORDS[word] if word in _WORDS else float(word.replace(",", ""))


def _ends(match: re.Match[str]) -> tuple[float, float]:
    group = match.groupdict()
    if group.get("from"):
        return _value(group["from"]), _value(group["till"])
    if group.get("low"):
        return _value(group["low"]), _value(group["high"] or group["low"])
    return (_value(group["only"]),) * 2 if group.get("only") else (1.0, 1.0)


def _period(word: str) -> float:
    return next(hours for name, hours in _PERIODS.items() if word.startswith(name))


def _made(
    match: re.Match[str], low: float, high: float, dimension: str, said: tuple[float, float]
) -> Quantity:
    low, high = sorted((float(f"{low:.6g}"), float(f"{high:.6g}")))
    return Quantity(low, high, dimension, "", said, match.start(), match.end())


def _dates(match: re.Match[str]) -> list[Quantity]:
    year = float(re.findall(r"(?:19|20)\d\d", match[0])[0])
    return [_made(match, year, year, "year", (year, year))]


def _every(match: re.Match[str]) -> list[Quantity]:
    low, high = _ends(match)
    hours = _period(match.groupdict().get("period") or "hour")
    if not low or not high:
        return []
    return [_made(match, 1 / (high * hours), 1 / (low * hours), "frequency", (low, high))]


def _times(match: re.Match[str]) -> list[Quantity]:
    often = _OFTEN.get(match["often"] or "")
    low, high = (often, often) if often else _ends(match)
    hours = _period(match["period"] or match["ly"])
    return [_made(match, low / hours, high / hours, "frequency", (low, high))]


def _latin(match: re.Match[str]) -> list[Quantity]:
    name = match["latin"].replace(".", "")
    n = _LATIN[name] if name in _LATIN else {"b": 2, "t": 3}[name[0]]
    return [_made(match, n / 24, n / 24, "frequency", (n, n))]


def _bare(match: re.Match[str]) -> list[Quantity]:
    rate = 1 / _period(match["ly"])
    return [_made(match, rate, rate, "frequency", (1.0, 1.0))]


def _one_in(match: re.Match[str]) -> list[Quantity]:
    part, whole = _value(match["part"]), _value(match["whole"])
    if not 0 < part < whole:
        return []
    return [_made(match, 100 * part / whole, 100 * part / whole, "share", (part, whole))]


def _fraction(match: re.Match[str]) -> list[Quantity]:
    n = _WORDS.get(match["part"] or "", 1.0)
    share = n * _FRACTIONS[match["name"]]
    return [_made(match, share, share, "share", (n, n))]


_READERS = (
    (_DATE, _dates),
    (_EVERY, _every),
    (_SHORT_EVERY, _every),
    (_HOURLY, _every),
    (_TIMES, _times),
    (_LATIN_TIMES, _latin),
    (_BARE, _bare),
    (_ONE_IN, _one_in),
    (_FRACTION, _fraction),
)


def _amounts(match: re.Match[str], plain: str) -> Iterator[Quantity]:
    low, high = said = _ends(match)
    unit = match["unit"] or ""
    if not unit and said == (1.0, 1.0) and match["only"] == "one":
        return
    factor, dimension = _unit(unit)
    if not unit and low == high and low.is_integer() and 1900 <= low <= 2099:
        dimension = "year"
    for per in _PER.finditer(match["per"] or ""):
        size, kind = _UNITS[per["unit"]]
        if kind == "time":
            yield _made(match, 1 / size, 1 / size, "frequency", (1.0, 1.0))
        else:
            factor, dimension = _divided(factor, dimension, size, kind, per["unit"])
    bound = _bound(plain[max(0, match.start() - 24) : match.start()], plain[match.end() :][:14])
    made = _made(match, low * factor, high * factor, dimension, said)
    yield Quantity(made.low, made.high, dimension, bound, said, made.start, made.end)


def _unit(name: str) -> tuple[float, str]:
    if name.startswith("per"):
        return _PER_SO_MANY.get(name.split()[-1].replace(",", ""), 1.0), "share"
    if "10" in name:
        return 10.0 ** int(re.findall(r"10\^?(\d+)", name)[0]), "count"
    return (1.0, "units") if name.startswith("int") else _UNITS.get(name, (1.0, ""))


def _divided(factor: float, dimension: str, size: float, kind: str, name: str) -> tuple[float, str]:
    """A dose per kg of the patient keeps its kg; a concentration is brought to one volume."""
    return (
        (factor / size, f"{dimension}/{kind}")
        if kind == "volume"
        else (factor, f"{dimension}/{name}")
    )


def _bound(before: str, after: str) -> Bound:
    if _DOWN.search(before) or _DOWN_AFTER.match(after):
        return "down"
    return "up" if _UP.search(before) or _UP_AFTER.match(after) else ""
