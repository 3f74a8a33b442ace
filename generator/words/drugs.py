"""The drugs that a text names, by the stems of their names and a list of common ones. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LEAST = 6
_ENDINGS = (
    "mab nib pril prilat sartan olol dipine statin xaban gatran parin azole cillin mycin micin "
    "cycline floxacin oxacin penem navir tegravir buvir clovir tadine previr oxetine triptan "
    "setron prazole tidine gliptin gliflozin glutide glitazone formin sone solone onide azepam "
    "zolam barbital caine profen oxicam coxib dronate dronic thiazide semide lukast meterol "
    "moterol caterol daterol buterol tropium zosin afil platin rubicin taxel mustine poside "
    "trexate tecan grastim poietin teplase fibrate curium curonium quine fungin zolid vancin "
    "bactam pezil stigmine zepine peridol tiapine zapine triptyline lafaxine pramine rizine "
    "adine ciclib parib degib rafenib limus mumab fentanil glinide arbital toin phylline "
    "cisteine orelin relix"
).split()
_NAMES = frozenset(
    (
        "abatacept acarbose acetaminophen acetazolamide acetylcysteine aciclovir acyclovir "
        "adenosine adrenaline aflibercept albumin albuterol alendronate allopurinol alprostadil "
        "alteplase amantadine amikacin amiloride aminophylline amiodarone amisulpride amlodipine "
        "amphotericin anakinra antivenom apomorphine aprepitant aripiprazole aspirin atropine "
        "azathioprine aztreonam baclofen bortezomib bosentan botulinum bromocriptine "
        "buprenorphine bupropion cabergoline caffeine calcitonin calcitriol capecitabine "
        "carbamazepine carbidopa carbimazole cefaclor cetirizine chloramphenicol chlorhexidine "
        "chlorpromazine ciclosporin cinacalcet citalopram clavulanate clindamycin clobazam "
        "clonidine clopidogrel clozapine co-amoxiclav co-trimoxazole codeine colchicine "
        "cyclophosphamide cyclosporine cytarabine danazol dantrolene dapsone deferasirox "
        "desmopressin dexmedetomidine diamorphine diclofenac digoxin diltiazem dimenhydrinate "
        "diphenhydramine dipyridamole disulfiram dobutamine domperidone dopamine entecavir "
        "ephedrine epinephrine eplerenone ergotamine ertapenem erythropoietin escitalopram "
        "estradiol etanercept ethambutol exenatide ezetimibe fentanyl finasteride flecainide "
        "fludrocortisone flumazenil fluorouracil fomepizole fosfomycin fulvestrant furosemide "
        "gabapentin gemcitabine gentamicin glibenclamide gliclazide glimepiride glipizide "
        "glucagon glyburide glyceryl haloperidol heparin hydralazine hydrocortisone "
        "hydroxocobalamin hydroxycarbamide hydroxyurea hyoscine imiquimod indapamide "
        "indomethacin infliximab insulin interferon ipratropium isoniazid isosorbide "
        "isotretinoin ivabradine ivermectin ketamine labetalol lactulose lamotrigine leflunomide "
        "lenalidomide letrozole leucovorin levetiracetam levodopa levothyroxine lithium "
        "loperamide loratadine mannitol mefenamic melatonin melphalan memantine mercaptopurine "
        "mesalazine metformin methadone methimazole methotrexate methyldopa methylphenidate "
        "metoclopramide metronidazole midodrine mifepristone milrinone minoxidil mirtazapine "
        "misoprostol modafinil morphine mycophenolate naloxone naltrexone naproxen nicorandil "
        "nicotine nimodipine nitrofurantoin nitroglycerin nitroprusside noradrenaline "
        "norepinephrine octreotide oxycodone oxytocin paracetamol penicillamine penicillin "
        "pentoxifylline phenobarbital phentolamine phenytoin pioglitazone piperacillin "
        "pirfenidone prasugrel prednisolone prednisone pregabalin probenecid procainamide "
        "prochlorperazine promethazine propofol propylthiouracil protamine pyrazinamide "
        "pyridostigmine quinidine raloxifene rasburicase remdesivir ribavirin rifampicin "
        "rifampin rifaximin riluzole risperidone sacubitril salbutamol semaglutide senna "
        "sertraline sevoflurane sildenafil sotalol spironolactone streptokinase streptomycin "
        "sulfamethoxazole sulfasalazine sumatriptan suxamethonium tacrolimus tamoxifen "
        "tamsulosin tazobactam teicoplanin temozolomide terbutaline teriparatide testosterone "
        "thalidomide thiopental thyroxine ticagrelor tolvaptan topiramate tramadol tranexamic "
        "trastuzumab trazodone trimethoprim ursodeoxycholic valaciclovir valproate vancomycin "
        "varenicline vasopressin venetoclax verapamil vigabatrin vinblastine vincristine "
        "warfarin zidovudine zopiclone"
    ).split()
)
_NO_DRUGS = frozenset(
    (
        "anyone azole backbone capsaicin capsone cystatin cytidine cytosine endosome everyone "
        "gasone glucuronide histidine imidazole marine milestone nitroimidazole peptone persone "
        "profen someone statin statins testosterone thiazole triazole"
    ).split()
)
_SYNONYMS = {
    "acetaminophen": "paracetamol", "epinephrine": "adrenaline", "norepinephrine": "noradrenaline",
    "albuterol": "salbutamol", "rifampin": "rifampicin", "acyclovir": "aciclovir",
    "cyclosporine": "ciclosporin", "glyburide": "glibenclamide", "hydroxyurea": "hydroxycarbamide",
}  # fmt: skip
_DRUG = re.compile(
    rf"\b(?:[a-z]{{2,}}(?:{'|'.join(_ENDINGS)})s?|cef[a-z]{{4,}}"
    rf"|(?:{'|'.join(sorted(_NAMES, key=len, reverse=True))})s?)\b"
)


def drugs(plain: str) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of every drug in a lower-case text; one name for all its spellings.

    >>> list(drugs("epinephrine, then amoxicillin"))
    [('adrenaline', 0, 11), ('amoxicillin', 18, 29)]
    """
    for match in _DRUG.finditer(plain):
        if match[0] not in _NO_DRUGS and match.end() - match.start() >= _LEAST:
            yield _name(match[0]), match.start(), match.end()


def _name(word: str) -> str:
    plural = word.endswith("s") and not word.endswith("us") and word not in _NAMES
    name = word[:-1] if plural else word
    return _SYNONYMS.get(name, name)
