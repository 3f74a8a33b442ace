"""Words by what they do in a question: without a model, lists are all there is to tell them apart.

A word in none of these lists is taken for specific: the name of a disease, a drug, a finding.
"""

from __future__ import annotations

import re

WH = frozenset("what which who whom whose when where why how".split())
AUXILIARIES = frozenset(
    "is are was were be been being am do does did can could may might must shall should will would "
    "has have had isn't aren't don't doesn't can't shouldn't".split()
)
PREPOSITIONS = frozenset(
    "of in on for with without after before during about against under over through via by from "
    "within between behind despite until following regarding to at per around into as".split()
)
ARTICLES = frozenset("the a an any some all each every its their his her my your our".split())
PRONOUNS = frozenset(
    "it its itself they them their theirs this that these those he she him his her hers one ones "
    "itself themselves i you we me us someone".split()
)
VERBS = frozenset(
    """begun chosen done found held made sent shown told adjust admit affect affects aim allow
    apply appear arrange arise ask assess avoid become begin brings bring buy call cause
    change check choose come comes combine compare confirm consider contact continue cure
    deal decide define describe detect develop diagnose discharge discuss do document drive
    eat end exclude exist expect explain fail find follow get gets give given go goes going
    gone gives handle happen happens help improve increase indicate infuse inherit inject
    keep kept know known last lasts lead leave leaves list live look lower make makes manage
    mean means measure mix monitor need needs note occur offer order pass passed pause
    perform postpone prefer prescribe present prevent put raise reach receive recognise
    recognize recommend recover recur reduce refer relate relieve remain remove repeat
    replace require respond restart resume return rule run say screen see seen show spread
    start stay stop suggest suspect switch take taken takes taper tell test treat treats try
    use watch withhold work works worsen write written""".split()
)
ATTRIBUTES = frozenset(
    """action advice adverse aftercare alternative amount antidote approach benefit care cause
    chance choice classification complication consequence contraindication cost course
    criterion criteria danger definition diagnosis diagnoses diet difference dosage dose
    dosing duration effect evidence exam examination finding follow-up frequency goal
    guideline harm incidence indication information interaction interval investigation kind
    level limit management manifestation maximum measure mechanism medication medicine
    minimum monitoring mortality name number option outcome outlook plan precaution
    prevalence prevention procedure prognosis prophylaxis protocol range rate reason
    recommendation regimen research response result risk role route rule schedule score sign
    stage standard status step strategy study success symptom target test testing therapy
    threshold time timing treatment trial type use value warning work-up workup drug drugs
    tablet condition disease disorder illness syndrome problem""".split()
)
OTHER = frozenset(
    """able about above rid vitro vivo situ according acceptable accepted adult afterwards
    again age ago allowed alone already also alternatively always and another anyone
    anything appropriate available away back bad bed beforehand best better big both but
    careful case cases certain clear clearly clinic clinical clinician common commonly
    completely correct current currently daily day days decision different doctor doctors
    early earlier either elevated else emergency enough ever exactly example factor family
    far fast few first food frequently full further general generally good group half hard
    high higher home hospital hour hours how however idea if immediately important initial
    initially instead involved itself just key kids large late later least left less light
    likely line little long longer low lower main mainly major many matter maybe mild minute
    minutes moderate month months more most much name near necessary never new next night no
    normal normally not nothing now nurse nurses office often ok okay old older once only
    onset or other others otherwise out own parent parents part parts particular patient
    patients people person physician physicians place please possible possibly preferred
    proper question quick quickly rather really recent recently recommended relevant right
    risks safe safely same school second seldom serious several severe severity short should
    side similar since single slow slowly small so somebody someone something sometimes soon
    sooner special specific still stuff such sure symptomatic thanks thank then there thing
    things third though three times today together tomorrow too total true twice two typical
    typically uncommon unless up upper urgent urgently useful usual usually various very
    visit visits ward way ways week weeks well what when whether while whole why widely work
    worse worst wrong year years yes yet younger last former latter going off down genetic
    gene genes changes loading maintenance full-dose first-line second-line discharge per
    challenged challenge fit because due""".split()
)
PLAIN = WH | AUXILIARIES | PREPOSITIONS | ARTICLES | PRONOUNS | VERBS | ATTRIBUTES | OTHER

POPULATION = re.compile(
    r"\b(?:(?:pregnant|breast-?feeding|elderly|older|younger|young|premature|school-age)\s+)?"
    r"(?:adults?|child(?:ren)?(?!-?pugh)|childhood|kids?|infants?|bab(?:y|ies)|neonates?|newborns?|"
    r"toddlers?|teenagers?|adolescents?|p(?:a)?ediatrics?|elderly|pregnan(?:t|cy)|women|woman|men|"
    r"man|boys?|girls?|(?:an?\s+)?\d{1,3}[- ](?:year|month|week)s?[- ]olds?)\b"
    r"(?:\s+(?:people|patients?|women|woman|men|adults?|child(?:ren)?|infants?|bab(?:y|ies)))?",
    re.IGNORECASE,
)
DRUG = re.compile(
    r"\b(?:\w*(?:cillin|mycin|micin|floxacin|cycline|azole|vir|statin|pril|sartan|olol|dipine|xaban|"
    r"gatran|parin|platin|mab|nib|gliptin|gliflozin|glutide|formin|gliclazide|darone|semide|thiazide|"
    r"prazole|setron|pitant|apine|azepam|azolam|triptan|solone|sone|steroids?|phylline|terol|"
    r"dronate|dronic|penem|ceph\w+|cef\w+|bactam|caine|barbital|etam|toin|oxetine|pramine|triptyline|"
    r"barin|profen|cetamol|aminophen|relor|grel|thyroxine|insulin|urea|zide|lactone|trexate|ximab|"
    r"rubicin|taxel|uricase|purinol|idazole|fenac|codone|orphine|adone|fentanil|fentanyl|zepine|"
    r"bital|curonium|limus)|aspirin|warfarin|heparin|digoxin|adrenaline|epinephrine|salbutamol|"
    r"glucagon|lithium|aciclovir|vancomycin|ibuprofen|paracetamol|ezetimibe|antibiotics?|vaccine|"
    r"sglt2|glyceryl trinitrate|oxygen|vitamin)\b",
    re.IGNORECASE,
)
DISEASE = re.compile(
    r"\b(?:\w+(?:itis|osis|oses|emia|aemia|oma|omas|pathy|plasia|plegia|trophy|penia|uria|rrhea|"
    r"rrhoea|rrhage|ectasis|asis|phobia|philia|algia|eurysm|pnea|pnoea|cele|sclerosis|iasis|oedema|"
    r"edema|eczema)|cancers?|disease|disorder|syndrome|infections?|tumou?rs?|stroke|attack|failure|"
    r"fever|asthma|diabetes|epilepsy|epilepticus|sepsis|shock|embolism|fractures?|deficiency|"
    r"injur\w+|ulcers?|pain|obesity|gout|flu|influenza|copd|hiv|aids|shingles|scabies|dementia|"
    r"arrest|bleeding|crisis|compression|lysis|ketoacidosis|hypoglyc\w+|anaphylaxis|migraine|croup|"
    r"autism|pregnancy|incontinence|loss|defects?|dystrophy|lice|measles|malaria|tetanus|rabies|"
    r"insomnia|hypertension|fibrillation|dystonia|palsy|neoplasms?|lupus|acromegaly|cystitis|"
    r"pneumonia|rash|seizures?|jaundice|nausea|vomiting|diarrh\w+|constipation|abscess|angina|"
    r"delirium|headache|dehydration|hernia|acne|pre-?eclampsia|overdose|poisoning|depression|anxiety|withdrawal|wound|burns?)\b",
    re.IGNORECASE,
)
CONDITION = re.compile(
    r"\b(?:allerg\w+|impairment|failure|pregnan\w+|breast-?feeding|obes\w+|dialysis|platelets|"
    r"intoleran\w+|dysfunction|insufficiency|disease|resistan\w+|egfr|clearance|immun\w+|diabetes)\b",
    re.IGNORECASE,
)
DRUG_ASKED = re.compile(
    r"\b(?:interact\w*|dos(?:e|es|age|ing)|taper\w*|infus\w*|restart\w*|resum\w*|inject\w*|"
    r"combin\w+|side effects?|adverse|trough|overdose|contraindicat\w+|tablets?|orally|titrat\w*|"
    r"(?:do|does|can|could|will) (?:it|they|this|that|these) (?:also )?cause|"
    r"maximum|crush\w*|stopped|withheld|paused|repeated|taken|half-life|started|safe|effective)\b",
    re.IGNORECASE,
)
DISEASE_ASKED = re.compile(
    r"\b(?:cause[sd]?|treat\w*|symptoms?|signs?|diagnos\w+|prevent\w*|inherit\w*|risk|prognosis|"
    r"outlook|stages?|catch|contagious|genes?|genetic|cured?|affected|tests?|tested|spread|"
    r"recogni\w+|confirm\w*|complications?|brings?)\b",
    re.IGNORECASE,
)


INTERVENTIONS = frozenset(
    """admission anticoagulation antibiotic antibiotics antiviral biopsy blood bridging
    chemotherapy fluid fluids imaging isolation mri operation oxygen physiotherapy
    radiotherapy referral scan screening steroid steroids surgery transfusion ultrasound
    vaccination vaccine x-ray""".split()
)
MANNERS = frozenset(
    """inhaled intramuscular intramuscularly intravenous intravenously iv nebulised nebulized
    oral orally rectal subcutaneous subcutaneously topical topically""".split()
)
QUANTITIES = frozenset(
    """target level range rate limit threshold interval dose duration frequency count time
    value""".split()
)


def plain(word: str) -> bool:
    """Whether a lower-case word is ordinary, in any inflection that endings alone show.

    >>> [word for word in "which doses of apixaban are recommended".split() if not plain(word)]
    ['apixaban']
    """
    if word in PLAIN or not any(letter.isalpha() for letter in word) or len(word) == 1:
        return True
    return any(
        stem in PLAIN or f"{stem}e" in PLAIN
        for ending in ("s", "es", "ed", "d", "ing", "ly", "'s")
        if word.endswith(ending) and len(stem := word[: -len(ending)]) > 2
    ) or (word.endswith(("ping", "pped", "tting", "tted")) and word.rstrip("eding")[:-1] in PLAIN)


def verb(word: str) -> bool:
    """Whether a lower-case word is an auxiliary or a common verb in any inflection."""
    if word in VERBS or word in AUXILIARIES:
        return True
    return any(
        stem in VERBS or f"{stem}e" in VERBS or stem[:-1] in VERBS
        for ending in ("ed", "d", "es", "s")
        if word.endswith(ending) and len(stem := word[: -len(ending)]) > 2
    )
