// The keyboard: what each key does, wherever a person is.

import { signal } from "@preact/signals";
import { closeOpen } from "./chat";
import { focusQuestion } from "./composer";
import { Button, Dialog } from "./parts";
import { go, place } from "./route";
import { shortcuts } from "./store";
import { asking, stop } from "./thread";
import { w } from "./words";

export const helping = signal(false);

export function KeyList() {
  const words = w().help;
  const keys: [string, string][] = [
    ["/", words.slash], ["Enter", words.enter], ["Shift Enter", words.line], ["Esc", words.escape],
    ["[ ]", words.brackets], ["?", words.question],
  ];
  return (
    <dl class="facts keys-list">
      {keys.map(([key, text]) => (
        <div key={key}><dt><kbd>{key}</kbd></dt><dd>{text}</dd></div>
      ))}
    </dl>
  );
}

export function Help() {
  if (!helping.value) return null;
  return (
    <Dialog title={w().help.title} onClose={() => (helping.value = false)} testid="help">
      <KeyList />
      <Button onClick={() => (helping.value = false)}>{w().close}</Button>
    </Dialog>
  );
}

const TYPING = "textarea, select, input:not([type=radio], [type=checkbox])";

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.matches(TYPING);
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
      // In other fields the key empties what was typed, and is not meant for the question.
      const elsewhere = typing && event.target !== document.getElementById("question");
      if (!closeOpen() && !elsewhere && asking.peek()) stop();
      return;
    }
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (typing || !plain || !shortcuts.peek() || document.querySelector("dialog[open]")) return;
    const act = { "/": toQuestion, "?": () => (helping.value = true), "[": () => cite(-1), "]": () => cite(1) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function toQuestion(): void {
  if (!["ask", "conversation"].includes(place.peek().view)) go("#/");
  requestAnimationFrame(focusQuestion);
}

/** To the next or previous citation of the page. */
function cite(step: number): void {
  const all = [...document.querySelectorAll<HTMLButtonElement>("button.cite")];
  if (!all.length) return;
  const at = all.findIndex((item) => item === document.activeElement || item.classList.contains("current"));
  // From nowhere, the first or the last number of the newest answer that has some.
  const newest = all.findIndex((item) => item.closest(".turn") === all.at(-1)?.closest(".turn"));
  const next = all[at < 0 ? (step > 0 ? newest : all.length - 1) : (at + step + all.length) % all.length];
  next?.click();
  // After the source has come into view: who goes from one to the next stays among the numbers.
  requestAnimationFrame(() => next?.focus());
}
