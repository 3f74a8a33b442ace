// An answer as plain text, and texts in pieces. Pure.

import type { Answer, Sentence, Source } from "./types";
import { dated, w, when } from "./words";

export interface Piece {
  text: string;
  mark: "" | "mark" | "current";
}

/** A source's text with what the sentences quote of it; what `current` quotes stands out. */
export function pieces(source: Source, sentences: Sentence[], current: Sentence | null): Piece[] {
  const spans: [number, number, boolean][] = [];
  for (const sentence of current ? [current, ...sentences] : sentences) {
    for (const { n, start, end } of sentence.spans) {
      const free = spans.every(([from, to]) => end <= from || to <= start);
      if (n === source.n && free) spans.push([start, end, sentence === current]);
    }
  }
  spans.sort((one, other) => one[0] - other[0]);
  // Offsets count characters; a JavaScript string counts some of them twice.
  const text = [...source.text];
  const found: Piece[] = [];
  let at = 0;
  for (const [start, end, isCurrent] of spans) {
    found.push({ text: text.slice(at, start).join(""), mark: "" });
    found.push({ text: text.slice(start, end).join(""), mark: isCurrent ? "current" : "mark" });
    at = end;
  }
  found.push({ text: text.slice(at).join(""), mark: "" });
  return found.filter((piece) => piece.text);
}

/** The answer with its references, to paste into notes. */
export function asText(answer: Answer, question: string, at: number): string {
  const cited = new Set(answer.sentences.flatMap((sentence) => sentence.citations));
  const marks = (sentence: Sentence): string => sentence.citations.map((n) => `[${n}]`).join("");
  const reference = (s: Source): string => {
    const parts = [s.title || s.document, s.section, s.dated && dated(s.dated)].filter(Boolean);
    return `[${s.n}] ${parts.join(", ")}. ${s.silo}, ${s.document}, ${w().evidence.place(s.start, s.end)}.`;
  };
  return [
    question,
    `Siloquy, ${when(at)}`,
    "",
    ...answer.sentences.map((sentence) => `${sentence.text} ${marks(sentence)}`),
    "",
    // Who pastes an answer into notes must not lose that hospitals differ.
    ...answer.conflicts.map(({ kind, detail }) => `${w().conflicts.title}: ${w().conflicts[kind]}: ${detail}.`),
    ...answer.sources.filter((source) => cited.has(source.n)).map(reference),
    ...answer.missing.map(({ silo, reason }) => `${silo}: ${w().missing.reasons[reason] ?? reason}.`),
    "",
    w().notice,
  ].join("\n");
}

/** Save a text as a file of the person's. */
export function download(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
