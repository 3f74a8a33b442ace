"""What in a text would name a patient. Pure.

``gateway/ui/src/identifiers.ts`` warns of the same and more while a question is typed.
"""

from __future__ import annotations

import re

_PATIENT = re.compile(
    r"\d{3,}[- ]\d{3,}|\S@\S|\b[Bb]orn\b|\b[Dd]ate of birth\b|\bDOB\b|\bMRN\b"
    r"|\b(?:[Pp]atient|[Nn]ame|NHS|[Hh]ospital (?:[Nn]o|[Nn]umber))[ \t]*[:#]"
    r"|\b(?:Mr|Mrs|Ms|Miss)\b\.? [A-Z]"
)


def names_patient(text: str) -> bool:
    """Whether a text looks as if it named a patient; a bare name goes unnoticed.

    >>> names_patient("Mrs Nullington"), names_patient("HN-0000-6301"), names_patient("Fever")
    (True, True, False)
    """
    return _PATIENT.search(text) is not None
