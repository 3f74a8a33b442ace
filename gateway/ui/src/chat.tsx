// Asking: conversations at the left, questions and answers in the middle, evidence at the right.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { shown, type ApiError } from "./api";
import { Composer, propose } from "./composer";
import { Evidence } from "./evidence";
import { History, TakeAway } from "./history";
import { Button, Failure } from "./parts";
import { place } from "./route";
import { conversations, current, fresh, openConversation, panel, reopen, turns } from "./thread";
import { closePanel } from "./cite";
import { TurnView } from "./turn";
import { w } from "./words";

export const drawer = signal(false);
const POLL_MS = 2000;

export function Chat() {
  const [error, setError] = useState<ApiError | null>(null);
  const { view, id } = place.value;
  useEffect(() => {
    setError(null);
    let wanted = true;
    const failed = (caught: unknown): void => {
      if (!wanted) return;
      // Else the next question would go unseen into the conversation that was open before.
      fresh();
      setError(shown(caught));
    };
    if (view === "conversation" && id) openConversation(id).catch(failed);
    else if (current.peek()) fresh();
    return () => {
      wanted = false;
    };
  }, [view, id]);
  usePolling(id);
  return (
    <div class="chat">
      <nav class={`history ${drawer.value ? "open" : ""}`} aria-label={w().history.label} data-testid="history">
        <Button icon="close" label={w().close} kind="plain" class="narrow-only" testid="close-drawer" onClick={closeDrawer} />
        <History onChosen={() => (drawer.value = false)} />
      </nav>
      <div class="middle">
        <Head />
        <div class="thread" data-testid="thread">
          {error ? <Failure error={error} /> : turns.value.length ? <Thread /> : <Welcome />}
        </div>
        <div class="dock">
          <Composer />
          <p class="notice" data-testid="notice">{w().notice}</p>
        </div>
      </div>
      <Evidence />
    </div>
  );
}

/** Looks again while a question of the conversation is answered in another tab. */
function usePolling(id: string): void {
  const elsewhere = turns.value.at(-1)?.kept?.state === "asking";
  useEffect(() => {
    if (!elsewhere) return undefined;
    const timer = setInterval(() => void reopen(id).catch(() => {}), POLL_MS);
    return () => clearInterval(timer);
  }, [elsewhere, id]);
}

function Head() {
  const title = conversations.value.find((item) => item.id === current.value)?.title;
  return (
    <div class="thread-head">
      <Button
        icon="menu" label={w().history.show} kind="plain" class="narrow-only" testid="drawer"
        expanded={drawer.value} onClick={openDrawer}
      />
      <h1 class="thread-title">{title || w().history.new}</h1>
      <TakeAway />
    </div>
  );
}

function openDrawer(): void {
  drawer.value = true;
  requestAnimationFrame(() => document.querySelector<HTMLElement>('[data-testid="new"]')?.focus());
}

function closeDrawer(): void {
  drawer.value = false;
  document.querySelector<HTMLElement>('[data-testid="drawer"]')?.focus();
}

function Welcome() {
  const words = w();
  return (
    <div class="welcome">
      <h2>{words.welcome}</h2>
      <p>{words.welcomeText}</p>
      <h3 class="small">{words.exampleLabel}</h3>
      <ul class="examples" lang="en">
        {words.examples.map((text) => (
          <li key={text}>
            <Button kind="plain" icon="right" onClick={() => propose(text)}>{text}</Button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Thread() {
  const last = useRef<HTMLDivElement>(null);
  const newest = turns.value.at(-1);
  useEffect(() => {
    // A new question comes into view; its answer does not move the page under a reader.
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    if (newest?.state === "asking") last.current?.scrollIntoView({ block: "start", behavior });
  }, [newest?.key]);
  useEffect(() => {
    if (newest?.state !== "asking") last.current?.scrollIntoView({ block: "start" });
  }, [current.value]);
  return (
    <>
      {turns.value.map((turn) => (
        <div key={turn.key} class="turn-place" ref={turn === newest ? last : undefined}>
          <TurnView turn={turn} />
        </div>
      ))}
    </>
  );
}

/** Whether something lies over the page that Escape closes; it is closed then. */
export function closeOpen(): boolean {
  if (drawer.peek()) {
    closeDrawer();
    return true;
  }
  const evidence = document.getElementById("evidence");
  // Where there is room it stands beside the page, and does not close.
  if (!panel.peek() || !evidence || getComputedStyle(evidence).position !== "fixed") return false;
  closePanel();
  return true;
}
