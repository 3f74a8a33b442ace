// The words of the page, in the language that a person has chosen.

import { signal } from "@preact/signals";
import { de } from "./words.de";
import { en } from "./words.en";

export const LANGUAGES = ["en", "de"] as const;
export type Language = (typeof LANGUAGES)[number];
export type Words = typeof en;

const CATALOGUES: Record<Language, Words> = { en, de };

export const language = signal<Language>("en");

/** The catalogue of the language in use; who reads it is drawn again when that changes. */
export const w = (): Words => CATALOGUES[language.value];

/** How the browser's own country writes the language, where it speaks it. */
const locale = (): string =>
  navigator.languages.find((name) => name.slice(0, 2) === language.value) ?? language.value;

export function when(ms: number): string {
  return new Date(ms).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" });
}

export function day(ms: number): string {
  return new Date(ms).toLocaleDateString(locale(), { dateStyle: "medium" });
}

/** A date as silos tell it, such as 2024-10-14, 2024-10 or 2024. */
export function dated(iso: string): string {
  const [year, month, date] = iso.split("-").map(Number);
  if (!year || Number.isNaN(year)) return iso;
  const at = new Date(Date.UTC(year, (month ?? 1) - 1, date ?? 1));
  const form: Intl.DateTimeFormatOptions = { year: "numeric", timeZone: "UTC" };
  if (month) form.month = "short";
  if (date) form.day = "numeric";
  return at.toLocaleDateString(locale(), form);
}

export const number = (n: number): string => n.toLocaleString(locale());
export const percent = (share: number): string => `${Math.round(100 * share)} %`;
export const listed = (names: string[]): string =>
  new Intl.ListFormat(locale(), { type: "conjunction" }).format(names);
