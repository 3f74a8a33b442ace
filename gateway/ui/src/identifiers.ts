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

/** What may identify a person, in its order; finds that overlap are one, named by the longest. */
export function identifiers(question: string): Found[] {
  const all = PATTERNS.flatMap(([kind, pattern]) =>
    [...question.matchAll(pattern)].map((found) => ({
      kind, start: found.index, end: found.index + found[0].length, longest: found[0].length,
    })),
  );
  all.sort((one, other) => one.start - other.start);
  const merged: typeof all = [];
  for (const item of all) {
    const last = merged.at(-1);
    if (!last || item.start >= last.end) merged.push({ ...item });
    else {
      if (item.longest > last.longest) Object.assign(last, { kind: item.kind, longest: item.longest });
      last.end = Math.max(last.end, item.end);
    }
  }
  return merged.map(({ kind, start, end }) => ({ kind, text: question.slice(start, end) }));
}

/** The question with what was found replaced by `mark`. */
export function redacted(question: string, found: Found[], mark: string): string {
  const longestFirst = [...found].sort((one, other) => other.text.length - one.text.length);
  return longestFirst.reduce((text, item) => text.replaceAll(item.text, mark), question);
}
