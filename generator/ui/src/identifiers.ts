// Finds what may name a patient in a question, before it is sent. English and German habits.

export type Kind = "email" | "birth" | "phone" | "number" | "record" | "name" | "address";

export interface Found {
  text: string;
  kind: Kind;
}

const MONTH =
  "(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-zä]*\\.?";
const DAY = "(?:0?[1-9]|[12]\\d|3[01])";
const YEAR = "(?:19|20)\\d\\d";
const PATTERNS: [Kind, RegExp][] = [
  ["email", /[\w.+-]+@[\w-]+\.[\w.-]+/g],
  ["birth", new RegExp(`\\b${DAY}[./-]${DAY}[./-]${YEAR}\\b`, "g")],
  ["birth", new RegExp(`\\b${DAY}[./-]${DAY}[./-]\\d\\d\\b(?! ?m?c?g| ?ml)`, "gi")],
  ["birth", new RegExp(`\\b${YEAR}[./-]\\d{1,2}[./-]\\d{1,2}\\b`, "g")],
  ["birth", new RegExp(`\\b\\d{1,2}(?:st|nd|rd|th|\\.)? ${MONTH},? ${YEAR}\\b`, "gi")],
  ["birth", new RegExp(`\\b${MONTH} \\d{1,2}(?:st|nd|rd|th)?,? ${YEAR}\\b`, "gi")],
  ["birth", /\b(?:dob|d\.o\.b\.|born|date of birth|geb\.?|geboren|geburtsdatum)\W{0,3}(?:on |in |am )?\d[\d./-]*/gi],
  ["phone", /(?:\+|\b)\d(?:[ ()./-]{0,2}\d){8,}\b/g],
  ["number", /\b(?:[A-Z]{1,4}-?)?(?:\d{7,}|(?!(?:19|20)\d\d-)\d{4}-\d{4,})\b/g],
  ["number", /\b[A-Z]\d{9}\b/g],
  ["record", /\b(?:mrn|nhs|ssn|patient|record|hospital|fall|akte|patienten|versicherten)-? ?(?:no|nr|number|nummer|id)?[.:#]* ?\d{4,}/gi],
  ["name", /\b(?:Mr|Mrs|Ms|Miss|Herrn?|Frau)\.? \p{Lu}[\p{L}'-]+(?: \p{Lu}[\p{L}'-]+)?/gu],
  ["name", /\b(?:[Pp]atient|[Pp]atientin|[Nn]ame)(?: is| heißt|:) \p{Lu}[\p{L}'-]+(?: \p{Lu}[\p{L}'-]+)?/gu],
  ["address", /\b\d{1,4} \p{Lu}\p{L}+ (?:Street|St|Road|Rd|Avenue|Ave|Lane)\b|\b\p{Lu}\p{L}+(?:straße|strasse|weg|gasse) \d{1,4}\b/gu],
];

/** What may identify a person, longest first; the longest find stands for what lies within it. */
export function identifiers(question: string): Found[] {
  const all = PATTERNS.flatMap(([kind, pattern]) =>
    [...question.matchAll(pattern)].map(([text]) => ({ text, kind })),
  );
  all.sort((one, other) => other.text.length - one.text.length);
  return all.filter(({ text }, at) => !all.slice(0, at).some((longer) => longer.text.includes(text)));
}

/** The question with what was found replaced by `mark`. */
export function redacted(question: string, found: Found[], mark: string): string {
  return found.reduce((text, item) => text.replaceAll(item.text, mark), question);
}
