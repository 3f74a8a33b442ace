// What is spoken to people who do not see the page.

import { signal } from "@preact/signals";

export interface Said {
  n: number;
  text: string;
}

const MOST = 20;
let count = 0;

/** The newest texts, each a part of its own: one that replaced another would silence it. */
export const spoken = signal<Said[]>([]);

/** Let a screen reader say a text; the same one again, too. */
export function say(text: string): void {
  count += 1;
  spoken.value = [...spoken.peek(), { n: count, text }].slice(-MOST);
}
