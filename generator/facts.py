"""What a clinical sentence states that must not change: numbers, sides, drugs, people, negation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from siloquy.generator.quantities import Quantity, quantities
from siloquy.text import STOP_WORDS

MarkKind = Literal["drug", "population", "laterality", "negation", "dose"]
"""Named after the fault that a mark of another value is; 'dose' is the route of a drug."""

_STEM = 6
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[a-z]+)?")
_SPELLINGS = (("aem", "em"), ("oed", "ed"), ("oes", "es"), ("aes", "es"), ("paed", "ped"),
              ("tumour", "tumor"), ("rrhoe", "rrhe"), ("isation", "ization"),
              ("sulph", "sulf"), ("colour", "color"), ("haem", "hem"), ("litre", "liter"))  # fmt: skip
_ENDINGS = ("ings", "ing", "ies", "ied", "ed", "es", "ly", "s", "e", "y")
_ALIKE = {
    stem: group.split()[0]
    for group in (
        "kidney renal nephri", "liver hepati", "heart cardia", "lung pulmon", "give admini given gave",
        "drug medici medica", "show demons reveal indica sugges", "increa raise elevat rise risen higher",
        "decrea reduc lower declin dimini", "cause induc", "treat therap", "illnes diseas disord",
        "physic doctor", "avoid contra", "begin start initia began", "stop discon cease withdr",
        "neonat newbor", "infant baby babi", "child pediat", "cancer carcin malign", "quick rapid",
        "test assay", "often freque", "use used using utiliz employ", "mother matern", "need requir",
        "help aid", "about approx around roughl", "people person patien", "main mainly primar",
        "differ distin", "role functi", "gene genes geneti", "mutat varian", "reveal shown",
    )
    for stem in group.split()
}  # fmt: skip

_DRUG_ENDINGS = (
    "mab nib pril prilat sartan olol dipine statin xaban gatran parin azole cillin mycin micin "
    "cycline floxacin oxacin penem navir tegravir buvir clovir tadine previr oxetine triptan setron prazole "
    "tidine gliptin gliflozin glutide glitazone formin sone solone onide azepam zolam barbital "
    "caine profen oxicam coxib dronate dronic thiazide semide lukast meterol moterol caterol daterol buterol tropium zosin afil "
    "platin rubicin taxel mustine poside trexate tecan grastim poietin teplase fibrate curium "
    "curonium quine fungin zolid vancin bactam pezil stigmine zepine peridol tiapine zapine "
    "triptyline lafaxine pramine rizine adine ciclib parib degib rafenib limus mumab fentanil "
    "glinide arbital toin phylline cisteine orelin relix"
).split()
_DRUG_NAMES = frozenset(
    "fentanyl abatacept acarbose acetaminophen acetazolamide acetylcysteine aciclovir acyclovir adenosine adrenaline "
    "aflibercept albumin alendronate allopurinol alprostadil alteplase amantadine amikacin amiloride "
    "aminophylline amiodarone amisulpride amlodipine amphotericin anakinra antivenom apomorphine aprepitant "
    "aripiprazole aspirin atropine azathioprine aztreonam baclofen bortezomib bosentan botulinum "
    "bromocriptine buprenorphine bupropion cabergoline caffeine calcitonin calcitriol capecitabine "
    "carbamazepine carbidopa carbimazole cefaclor chloramphenicol chlorhexidine chlorpromazine ciclosporin "
    "cinacalcet citalopram clindamycin clobazam clonidine clopidogrel clozapine codeine colchicine "
    "cyclophosphamide cyclosporine cytarabine danazol dantrolene dapsone deferasirox desmopressin "
    "dexmedetomidine diamorphine diclofenac digoxin diltiazem dimenhydrinate diphenhydramine dipyridamole "
    "disulfiram dobutamine domperidone dopamine entecavir ephedrine epinephrine eplerenone ergotamine "
    "ertapenem erythropoietin escitalopram estradiol etanercept ethambutol exenatide ezetimibe finasteride "
    "flecainide flumazenil fluorouracil fomepizole fosfomycin fulvestrant furosemide gabapentin gemcitabine "
    "gentamicin glibenclamide gliclazide glimepiride glipizide glucagon glyburide haloperidol heparin "
    "hydralazine hydroxocobalamin hydroxycarbamide hydroxyurea hyoscine imiquimod indapamide indomethacin "
    "infliximab insulin interferon ipratropium isoniazid isosorbide isotretinoin ivabradine ivermectin "
    "ketamine labetalol lactulose lamotrigine leflunomide letrozole leucovorin levetiracetam levodopa "
    "levothyroxine lithium loperamide loratadine cetirizine mannitol mefenamic melatonin melphalan memantine "
    "mercaptopurine mesalazine metformin methadone methimazole methotrexate methyldopa methylphenidate "
    "metoclopramide metronidazole midodrine mifepristone milrinone minoxidil mirtazapine misoprostol "
    "modafinil morphine mycophenolate naloxone naltrexone naproxen nicorandil nicotine nimodipine "
    "nitrofurantoin nitroglycerin glyceryl nitroprusside noradrenaline norepinephrine octreotide "
    "oxycodone oxytocin paracetamol penicillamine penicillin pentoxifylline phenobarbital phentolamine "
    "phenytoin pioglitazone piperacillin pirfenidone prasugrel pregabalin probenecid procainamide "
    "prochlorperazine promethazine propofol propylthiouracil protamine pyrazinamide pyridostigmine "
    "quinidine raloxifene rasburicase remdesivir ribavirin rifampicin rifampin rifaximin riluzole risperidone "
    "sacubitril salbutamol albuterol semaglutide senna sertraline sevoflurane sildenafil sotalol "
    "spironolactone streptokinase streptomycin sulfasalazine sumatriptan suxamethonium tacrolimus tamoxifen "
    "tamsulosin teicoplanin temozolomide terbutaline teriparatide testosterone thalidomide lenalidomide "
    "thiopental thyroxine ticagrelor tolvaptan topiramate tramadol tranexamic trastuzumab trazodone "
    "trimethoprim ursodeoxycholic valaciclovir valproate vancomycin varenicline vasopressin venetoclax "
    "verapamil vigabatrin vincristine vinblastine warfarin zidovudine zopiclone co-amoxiclav co-trimoxazole "
    "tazobactam sulfamethoxazole clavulanate fludrocortisone hydrocortisone prednisolone prednisone".split()
)
_NO_DRUGS = frozenset(
    "azole statin statins cystatin testosterone capsone gasone endosome capsaicin thiazole persone "
    "imidazole triazole nitroimidazole histidine cytidine glucuronide profen marine peptone milestone someone everyone anyone cytosine backbone".split()
)
_SYNONYMS = {
    "acetaminophen": "paracetamol", "epinephrine": "adrenaline", "norepinephrine": "noradrenaline",
    "albuterol": "salbutamol", "rifampin": "rifampicin", "acyclovir": "aciclovir",
    "cyclosporine": "ciclosporin", "glyburide": "glibenclamide", "hydroxyurea": "hydroxycarbamide",
}  # fmt: skip
_DRUG = re.compile(
    rf"\b(?:[a-z]{{2,}}(?:{'|'.join(_DRUG_ENDINGS)})s?|cef[a-z]{{4,}}"
    rf"|(?:{'|'.join(sorted(_DRUG_NAMES, key=len, reverse=True))})s?)\b"
)

_POLES: tuple[tuple[MarkKind, str, str, str], ...] = (
    ("laterality", "side", "left", r"left(?:-sided)?"),
    ("laterality", "side", "right", r"right(?:-sided)?"),
    ("laterality", "sides", "one", r"unilateral(?:ly)?|one[- ]sided"),
    ("laterality", "sides", "both", r"bilateral(?:ly)?|both sides"),
    ("laterality", "height", "up", r"upper|superior"),
    ("laterality", "height", "down", r"lower|inferior"),
    ("laterality", "distance", "near", r"proximal(?:ly)?"),
    ("laterality", "distance", "far", r"distal(?:ly)?"),
    ("laterality", "face", "front", r"anterior(?:ly)?|ventral(?:ly)?"),
    ("laterality", "face", "back", r"posterior(?:ly)?|dorsal(?:ly)?"),
    ("laterality", "middle", "in", r"medial(?:ly)?"),
    ("laterality", "middle", "out", r"lateral(?:ly)?"),
    ("negation", "change", "up", r"(?:up-?regulat|increas|rais|elevat|enhanc)\w*|rises?|rising|rose"
     r"|higher|greater|more"),
    ("negation", "change", "down", r"(?:down-?regulat|decreas|reduc|diminish|declin|impair)\w*"
     r"|lower(?:s|ed|ing)?|falls?|fell|fewer|less"),
    ("negation", "order", "before", r"before|prior to|preced(?:es|ed|ing)"),
    ("negation", "order", "after", r"after|following|subsequent to"),
    ("negation", "course", "start", r"(?:re)?start(?:s|ed|ing)?|begin(?:s|ning)?|initiat\w+|commenc\w+"
     r"|continu(?:e|es|ed|ing)"),
    ("negation", "course", "stop", r"stop(?:s|ped|ping)?|discontinu\w+|withh[eo]ld\w*|ceas\w+|paused?"),
    ("negation", "safety", "yes", r"safe(?:ly)?|safety"),
    ("negation", "safety", "no", r"unsafe|dangerous|harmful|hazardous"),
    ("negation", "effect", "yes", r"effective(?:ly)?|efficac\w+|beneficial"),
    ("negation", "effect", "no", r"ineffective(?:ly)?|useless"),
    ("negation", "place", "above", r"above"),
    ("negation", "place", "below", r"below"),
    ("negation", "level", "high", r"high|hyper\w+"),
    ("negation", "level", "low", r"low|hypo(?!thal|thes)\w+"),
    ("negation", "sign", "positive", r"positive(?:ly)?"),
    ("negation", "sign", "negative", r"negative(?:ly)?"),
    ("negation", "action", "agonist", r"agonists?|activat\w+|stimulat\w+"),
    ("negation", "action", "antagonist", r"antagonists?|inhibit\w*|block(?:s|ed|ing|ade)?|suppress\w*"),
    ("negation", "growth", "benign", r"benign"),
    ("negation", "growth", "malignant", r"malignan\w+"),
    ("negation", "course of illness", "acute", r"acute(?:ly)?"),
    ("negation", "course of illness", "chronic", r"chronic(?:ally)?"),
    ("dose", "route", "mouth", r"oral(?:ly)?|by mouth"),
    ("dose", "route", "vein", r"intravenous(?:ly)?|iv|through a vein"),
    ("dose", "route", "muscle", r"intramuscular(?:ly)?"),
    ("dose", "route", "skin", r"subcutaneous(?:ly)?"),
    ("dose", "route", "rectum", r"rectal(?:ly)?|by rectum"),
    ("dose", "route", "breath", r"inhal\w+|nebuli\w+"),
    ("dose", "route", "top", r"topical(?:ly)?"),
    ("population", "age", "neonate", r"neonat\w+|newborns?"),
    ("population", "age", "infant", r"infants?|babies|baby"),
    ("population", "age", "child", r"child(?:ren)?(?:'s)?|p(?:a)?ediatric|boys?|girls?"),
    ("population", "age", "adolescent", r"adolescen\w+|teenage\w*|teens?"),
    ("population", "age", "adult", r"adults?"),
    ("population", "age", "older", r"elderly|geriatric|frail|older (?:people|adults?|patients|men"
     r"|women|persons)"),
    ("population", "sex", "male", r"men|males?|man|boys?"),
    ("population", "sex", "female", r"women|woman|females?|girls?"),
    ("population", "pregnancy", "pregnant", r"pregnan\w+"),
    ("population", "pregnancy", "breastfeeding", r"breast-?feeding|lactating"),
    ("population", "organ", "kidney", r"(?:renal|kidney) (?:impairment|failure|insufficiency|disease"
     r"|dysfunction)|dialysis|ckd"),
    ("population", "organ", "liver", r"(?:hepatic|liver) (?:impairment|failure|insufficiency|disease"
     r"|dysfunction)|cirrho\w+"),
)  # fmt: skip
_POLE = {
    kind: re.compile("|".join(rf"(?P<p{i}>\b(?:{pole[3]})\b)" for i, pole in enumerate(_POLES) if pole[0] == kind))
    for kind in ("laterality", "negation", "dose", "population")
}

_NO_NEGATION = re.compile(
    r"^\W*no\b(?=,|\.|:|;)|\b(?:not only|not just|with or without|whether or not|no doubt|if not|not to mention"
    r"|(?:no|not) (?:more|less|later|earlier|longer|greater|higher|lower|fewer) than|not before"
    r"|not (?:to )?exceed(?:ing)?|cannot be (?:excluded|ruled out)|if no|without delay|not necessarily)\b"
)
_NEGATION = re.compile(
    r"(?P<both>\b(?:not|cannot|never|contra-?indicated|unable|fail(?:s|ed)? to|unlikely|nor|prohibited)\b"
    r"|\w+n['’]t\b)"
    r"|(?P<after>\b(?:no|without|neither|none|avoid(?:s|ed|ing|ance)?|lack(?:s|ed|ing)?|absence|absent"
    r"|refrain|rather than|instead of|free (?:of|from)|except)\b)"
)
_CLAUSE = re.compile(r"[,;:.()]|\b(?:but|because|unless|although|though|whereas|while|which|who|if|when)\b")
_AFTER, _BEFORE = 5, 4


@dataclass(frozen=True, slots=True)
class Token:
    """A word or number, folded so that its forms are equal."""

    stem: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A word that has rivals: 'left' on the axis 'side', 'amoxicillin' on the axis 'drug'."""

    kind: MarkKind
    axis: str
    value: str
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Negation:
    """A denial and the stems of the words that it is about.

    near   those that follow it, or for want of them those before it
    """

    near: frozenset[str]
    scope: frozenset[str]
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What two sentences must share to say the same of a patient."""

    quantities: frozenset[Quantity]
    marks: frozenset[Mark]
    negations: frozenset[Negation]


def facts(sentence: str) -> Facts:
    """Quantities, marks and negations of a sentence.

    >>> found = facts("Do not give children amoxicillin 500 mg")
    >>> sorted(mark.value for mark in found.marks), len(found.negations)
    (['amoxicillin', 'child'], 1)
    """
    tokens = tokens_of(sentence)
    return Facts(
        frozenset(quantities(sentence)),
        frozenset(marks(sentence)),
        frozenset(negations(sentence, tokens)),
    )


def tokens_of(text: str) -> list[Token]:
    """Words and numbers of ``text``, stop words too, in order."""
    plain = _lower(text).replace("’", "'")
    return [Token(stem(m[0]), m.start(), m.end()) for m in _TOKEN.finditer(plain)]


def stem(word: str) -> str:
    """A lower-case word with ending, spelling and a few synonyms folded.

    >>> stem("haemorrhages") == stem("hemorrhage"), stem("renal") == stem("kidney")
    (True, True)
    """
    if word[0].isdigit():
        return word.replace(",", "")
    for british, american in _SPELLINGS:
        word = word.replace(british, american)
    short = word[:_STEM]
    if short in _ALIKE:
        return _ALIKE[short]
    if len(word) > _STEM:
        return short
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return _ALIKE.get(word, word)


def marks(text: str) -> list[Mark]:
    """Drugs, people, sides, routes and directions of ``text``."""
    plain = _lower(text)
    found = [
        Mark("drug", "drug", _drug(m[0]), m.start(), m.end())
        for m in _DRUG.finditer(plain)
        if m[0] not in _NO_DRUGS and m.end() - m.start() > 5
    ]
    plain = _NO_NEGATION.sub(lambda m: "\x01" * len(m[0]), plain)
    for pattern in _POLE.values():
        for m in pattern.finditer(plain):
            kind, axis, value, _ = _POLES[int((m.lastgroup or "p0")[1:])]
            found.append(Mark(kind, axis, value, m.start(), m.end()))
    return found + [Mark("population", "sex", sex, m.start(), m.end()) for sex, m in _boys(plain)]


def _boys(plain: str) -> list[tuple[str, re.Match[str]]]:
    """Boys and girls are children too: the age is their first mark, the sex their second."""
    return [("male" if m[0][0] == "b" else "female", m) for m in re.finditer(r"\b(?:boy|girl)s?\b", plain)]


def _drug(word: str) -> str:
    name = word if word in _DRUG_NAMES or not word.endswith("s") or word.endswith("us") else word[:-1]
    return _SYNONYMS.get(name, name)


def negations(text: str, tokens: list[Token]) -> list[Negation]:
    """Every denial of ``text`` with what it is about; 'no more than' and the like are none."""
    plain = _NO_NEGATION.sub(lambda m: "\x01" * len(m[0]), _lower(text))
    stops = [m.start() for m in _CLAUSE.finditer(plain) if not _decimal(plain, m.start())]
    return [_negation(m, tokens, stops) for m in _NEGATION.finditer(plain)]


def _decimal(plain: str, i: int) -> bool:
    return plain[i] in ".," and plain[i + 1 : i + 2].isdigit()


def _negation(match: re.Match[str], tokens: list[Token], stops: list[int]) -> Negation:
    first = max((i for i in stops if i < match.start()), default=-1)
    last = min((i for i in stops if i >= match.end()), default=10**9)
    inside: Callable[[Token], bool] = lambda t: first < t.start < last and content(t.stem)  # noqa: E731
    after = [t.stem for t in tokens if t.start >= match.end() and inside(t)][:_AFTER]
    before = [t.stem for t in tokens if t.end <= match.start() and inside(t)][-_BEFORE:]
    scope = after + before if match["both"] or not after else after
    return Negation(frozenset(after or before), frozenset(scope), match.start(), match.end())


def content(word: str) -> bool:
    """Whether a stem says something by itself."""
    return word not in _EMPTY and (len(word) > 1 or word.isdigit())


_EMPTY = STOP_WORDS | frozenset(
    "ye may might must shall also been being both each either however into more most other over same "
    "some very via whether within without during because through between but per non ha wa doe thi "
    "hav wer ther thes thos which whil wher bef before after upon under above below".split()
)


def _lower(text: str) -> str:
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
