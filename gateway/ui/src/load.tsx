// Data of a page that is read once, or again and again while it is looked at.

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { json, shown, type ApiError } from "./api";
import { Button, Failure, Level, useHeading } from "./parts";
import { w } from "./words";

export interface Loaded<T> {
  value: T | null;
  error: ApiError | null;
  again: () => void;
}

/** The JSON under `path`; read again every `every_ms` while the page is seen. */
export function useLoaded<T>(path: string, everyMs = 0): Loaded<T> {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const wanted = useRef(path);
  wanted.current = path;
  const read = useCallback((quiet: boolean) => {
    // What was asked for before, and comes late, is no longer what the page shows.
    const holds = (): boolean => wanted.current === path;
    // What the page reads by itself keeps nobody signed in.
    json<T>(quiet ? `${path}${path.includes("?") ? "&" : "?"}quiet=1` : path).then(
      (told) => {
        if (!holds()) return;
        setValue(told);
        setError(null);
      },
      (caught) => holds() && setError(shown(caught)),
    );
  }, [path]);
  const again = useCallback(() => read(false), [read]);
  useEffect(() => {
    again();
    if (!everyMs) return undefined;
    const timer = setInterval(() => document.hidden || read(true), everyMs);
    return () => clearInterval(timer);
  }, [again, read, everyMs]);
  return { value, error, again };
}

interface PageProps {
  title: string;
  text?: string;
  loaded?: Loaded<unknown>;
  testid?: string;
  children?: ComponentChildren;
}

/** A page beside the chat: a title, and what was loaded or why not. */
export function Page({ title, text, loaded, testid, children }: PageProps) {
  const heading = useHeading();
  return (
    <div class="page" data-testid={testid}>
      <h1 ref={heading} tabIndex={-1}>{title}</h1>
      {text && <p class="lead">{text}</p>}
      <Level.Provider value="h2">
        {loaded?.error && (
          <Failure error={loaded.error}><Button onClick={loaded.again}>{w().tryAgain}</Button></Failure>
        )}
        {loaded && !loaded.value && !loaded.error ? <p role="status">{w().loading}…</p> : children}
      </Level.Provider>
    </div>
  );
}
