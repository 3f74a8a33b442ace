// What a person has chosen for this browser.

import { effect, signal } from "@preact/signals";
import { LANGUAGES, language, type Language } from "./words";

export type Theme = "system" | "light" | "dark";

export const theme = signal<Theme>(read("theme", ["system", "light", "dark"], "system"));
export const shortcuts = signal(read("shortcuts", ["on", "off"], "on") === "on");

function read<T extends string>(key: string, among: readonly T[], otherwise: T): T {
  const kept = localStorage.getItem(`siloquy.${key}`) as T | null;
  return kept !== null && among.includes(kept) ? kept : otherwise;
}

const browser = navigator.language.slice(0, 2) as Language;
language.value = read("language", LANGUAGES, LANGUAGES.includes(browser) ? browser : "en");

effect(() => {
  localStorage.setItem("siloquy.theme", theme.value);
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
});
effect(() => localStorage.setItem("siloquy.shortcuts", shortcuts.value ? "on" : "off"));
effect(() => {
  document.documentElement.lang = language.value;
  if (language.peek() !== browser || localStorage.getItem("siloquy.language")) {
    localStorage.setItem("siloquy.language", language.value);
  }
});
