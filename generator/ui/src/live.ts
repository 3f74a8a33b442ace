// What is spoken to people who do not see the page.

import { signal } from "@preact/signals";

export const spoken = signal("");

/** Let a screen reader say a text; the same one again, too. */
export function say(text: string): void {
  spoken.value = spoken.peek() === text ? `${text}\u00a0` : text;
}
