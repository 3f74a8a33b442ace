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

const MONTHS_A_YEAR = 12;

/** How old something of such a date is, in whole months or years; empty when that cannot be said. */
export function aged(iso: string, now = new Date()): string {
  const [year, month] = iso.split("-").map(Number);
  if (!year || Number.isNaN(year)) return "";
  const years = now.getFullYear() - year;
  const months = month ? years * MONTHS_A_YEAR + now.getMonth() + 1 - month : years * MONTHS_A_YEAR;
  if (months < 1) return "";
  const form = new Intl.RelativeTimeFormat(locale(), { numeric: "always" });
  return months < 2 * MONTHS_A_YEAR && month
    ? form.format(-months, "month")
    : form.format(-Math.floor(months / MONTHS_A_YEAR), "year");
}

export const number = (n: number): string => n.toLocaleString(locale());
export const decimal = (n: number): string =>
  n.toLocaleString(locale(), { minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const percent = (share: number): string =>
  share.toLocaleString(locale(), { style: "percent", maximumFractionDigits: 0 });
export const listed = (names: string[]): string =>
  new Intl.ListFormat(locale(), { type: "conjunction" }).format(names);
