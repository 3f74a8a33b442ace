// Where in the page a person is: the part of the address behind the #.

import { signal } from "@preact/signals";

export type View =
  | "ask" | "conversation" | "federation" | "roster" | "people" | "judgements" | "sign-ins"
  | "settings" | "join" | "open" | "silo" | "ledger" | "documents" | "sign-in";

export interface Place {
  view: View;
  id: string;
  query: URLSearchParams;
}

const VIEWS: Record<string, View> = {
  "": "ask", c: "conversation", federation: "federation", roster: "roster", people: "people",
  judgements: "judgements", "sign-ins": "sign-ins", settings: "settings", join: "join",
  open: "open", silo: "silo", ledger: "ledger", documents: "documents", "sign-in": "sign-in",
};

function here(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", id = ""] = path.split("/");
  return { view: VIEWS[name] ?? "ask", id: decoded(id), query: new URLSearchParams(query) };
}

/** A part of the address; one that was typed wrongly names nothing, and breaks nothing. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const place = signal<Place>(here());
addEventListener("hashchange", () => (place.value = here()));

export function go(hash: string, replace = false): void {
  if (replace) {
    history.replaceState(null, "", hash || location.pathname + location.search);
    place.value = here();
  } else if (location.hash === hash) {
    place.value = here();
  } else {
    location.hash = hash;
  }
}
