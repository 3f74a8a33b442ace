// The numbers of citations, and the way to their sources and back.

import { say } from "./live";
import { looked, panel, tab, type Turn } from "./thread";
import type { Source } from "./types";
import { w } from "./words";

interface CiteProps {
  turn: Turn;
  sentence: number;
  n: number;
  source: Source | undefined;
}

export function Cite({ turn, sentence, n, source }: CiteProps) {
  const at = looked.value;
  const current = at?.key === turn.key && at.n === n && at.sentence === sentence;
  const name = source ? [source.title || source.document, source.silo].join(", ") : "";
  return (
    <button
      type="button" class={`cite ${current ? "current" : ""}`} data-testid="cite"
      id={citeId(turn.key, sentence, n)} aria-label={w().source(n, name)} title={name}
      aria-pressed={current} onClick={() => look(turn, n, sentence)}
    >
      {n}
    </button>
  );
}

let opener: Element | null = null;

/** Show the evidence of an answer; `n` is 0 where no source is meant. */
export function openPanel(turn: Turn, n: number, sentence: number): void {
  opener = document.activeElement;
  looked.value = { key: turn.key, n, sentence };
  panel.value = true;
}

/** Close the evidence where it lies over the page, and go back to where it was opened from. */
export function closePanel(): void {
  panel.value = false;
  const at = looked.peek();
  const back = (at && document.getElementById(citeId(at.key, at.sentence, at.n))) ?? opener;
  if (back instanceof HTMLElement) back.focus();
}

const citeId = (key: number, sentence: number, n: number): string => `cite-${key}-${sentence}-${n}`;

/** Open a source beside the answer, with what the sentence quotes of it. */
export function look(turn: Turn, n: number, sentence: number): void {
  tab.value = "sources";
  openPanel(turn, n, sentence);
  say(w().evidence.highlighted(n));
  requestAnimationFrame(() => {
    const card = document.getElementById(`source-${turn.key}-${n}`);
    // A reader may have closed it, or what it lies in, since it was last shown.
    for (let at = card?.closest("details"); at; at = at.parentElement?.closest("details")) at.open = true;
    card?.querySelector<HTMLElement>("mark.current")?.scrollIntoView({ block: "nearest" });
    card?.querySelector<HTMLElement>("summary")?.focus({ preventScroll: true });
  });
}
