// Where a question is written: how it is asked, and what may identify a patient in it.

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { identifiers, redacted, type Found } from "./identifiers";
import { say } from "./live";
import { Box, Button, Choice } from "./parts";
import { ask, asking, draft, MOST_CHARACTERS, stop, turns, type Asked } from "./thread";
import type { Intent, Mode, Route } from "./types";
import { w } from "./words";

type ModeChoice = Mode | "site";
type IntentChoice = Intent | "site";

const route = signal<Route>("auto");
const mode = signal<ModeChoice>("site");
const intent = signal<IntentChoice>("site");
const choosing = signal(false);
// Tab, line feed and carriage return are what people type.
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

export function focusQuestion(): void {
  document.getElementById("question")?.focus();
}

/** Put a text where questions are written, to be changed or asked. */
export function propose(text: string): void {
  focusQuestion();
  const area = document.activeElement;
  if (area instanceof HTMLTextAreaElement) area.select();
  // As if it had been typed: what stood there comes back by the browser's own undo.
  if (!document.execCommand("insertText", false, text)) draft.value = text;
}

/** A question as the page says now that it is to be asked. */
export function wanted(question: string): Asked {
  return {
    question,
    route: route.value,
    mode: mode.value === "site" ? null : mode.value,
    intent: intent.value === "site" ? null : intent.value,
  };
}

export function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  const [found, setFound] = useState<Found[]>([]);
  const [fault, setFault] = useState("");
  const text = draft.value;
  const busy = asking.value !== null;

  useEffect(() => {
    const area = box.current;
    if (!area) return;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight + 2, 240)}px`;
  }, [text]);

  // What was found, or wrong, was so of another text.
  useLayoutEffect(() => {
    setFound([]);
    setFault("");
  }, [text]);

  const send = (agreed: boolean): void => {
    if (busy) return;
    const question = draft.peek().trim();
    const suspicious = agreed ? [] : identifiers(question);
    const problem = fit(question);
    setFault(problem);
    setFound(problem ? [] : suspicious);
    if (problem) {
      say(problem);
      focusQuestion();
    } else if (!suspicious.length) {
      draft.value = "";
      choosing.value = false;
      void ask(wanted(question));
    }
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send(false);
  };

  return (
    <form class="composer" data-testid="composer" noValidate onSubmit={(event) => {
      event.preventDefault();
      send(false);
    }}>
      {found.length > 0 && (
        <Identifiers
          found={found}
          onRedact={() => {
            draft.value = redacted(draft.peek(), found, w().phi.mark);
            setFound([]);
            focusQuestion();
          }}
          onAnyway={() => send(true)}
          onClose={() => {
            setFound([]);
            focusQuestion();
          }}
        />
      )}
      {fault && <p class="fault" id="fault" data-testid="fault">{fault}</p>}
      <label for="question" class="unseen">{w().question}</label>
      <div class="writing">
        <textarea
          id="question" ref={box} rows={1} value={text} autocomplete="off" spellcheck={false}
          placeholder={turns.value.length ? w().followUp : w().placeholder}
          aria-describedby={fault ? "fault keys" : "keys"} aria-invalid={fault ? "true" : undefined}
          onInput={(event) => typed(event.currentTarget)} onKeyDown={key} data-testid="question"
        />
        {busy ? (
          // The second click of a double click on "Ask" is not meant for what stands there by then.
          <Button icon="stop" kind="danger" testid="stop" onClick={(event) => event.detail < 2 && stop()}>{w().stop}</Button>
        ) : (
          <Button icon="send" kind="primary" type="submit" testid="ask">{w().ask}</Button>
        )}
      </div>
      <Options />
      <p id="keys" class="small keys">
        {w().keys}
        {text.length > MOST_CHARACTERS * 0.8 && ` ${w().characters(folded(text).length, MOST_CHARACTERS)}`}
      </p>
    </form>
  );
}

function typed(area: HTMLTextAreaElement): void {
  const clean = area.value.replace(CONTROL, "");
  if (clean !== area.value) {
    say(w().controlRemoved(area.value.length - clean.length));
    area.value = clean;
  }
  draft.value = clean;
}

const folded = (text: string): string => text.trim().replace(/\s+/g, " ");

/** Why a question cannot be sent; empty when it can. */
function fit(question: string): string {
  const has = folded(question).length;
  if (!has) return w().emptyQuestion;
  return has > MOST_CHARACTERS ? w().tooLong(has, MOST_CHARACTERS) : "";
}

function Options() {
  const words = w();
  const sealed = mode.value === "sealed";
  return (
    <details
      class="options" data-testid="options" open={choosing.value}
      onToggle={(event) => (choosing.value = event.currentTarget.open)}
    >
      <summary>
        {words.options}
        <span class="small chosen-options">
          {route.value === "all" ? ` · ${words.routeAll}` : ""}
          {mode.value === "site" ? "" : ` · ${sealed ? words.modeSealed : words.modeOpen}`}
          {intent.value === "site" ? "" : ` · ${words.intents[intent.value]}`}
        </span>
      </summary>
      <div class="choices">
        <Choice
          legend={words.silos} name="route" value={route.value} onChange={(value) => (route.value = value)}
          among={[["auto", words.routeAuto], ["all", words.routeAll]]}
        />
        <Choice
          legend={words.mode} name="mode" value={mode.value} onChange={(value) => (mode.value = value)}
          among={[["site", words.modeSite], ["open", words.modeOpen], ["sealed", words.modeSealed]]}
          hint={words.modeWords[mode.value]}
        />
        <Choice
          legend={words.intent} name="intent" value={intent.value}
          onChange={(value) => (intent.value = value)}
          among={(["site", "precise", "diverse", "fast"] as const).map((item) => [item, words.intents[item]] as const)}
        />
      </div>
    </details>
  );
}

interface IdentifiersProps {
  found: Found[];
  onRedact: () => void;
  onAnyway: () => void;
  onClose: () => void;
}

function Identifiers({ found, onRedact, onAnyway, onClose }: IdentifiersProps) {
  const words = w().phi;
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => ref.current?.querySelector("button")?.focus(), []);
  return (
    <div ref={ref} onKeyDown={(event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      onClose();
    }}>
      <Box kind="amber" title={words.title} testid="identifiers">
        <p role="alert">{words.text}</p>
        <ul>
          {found.map(({ text, kind }) => (
            <li key={kind + text}><strong>{text}</strong> ({words.kinds[kind]})</li>
          ))}
        </ul>
        <div class="row">
          <Button kind="primary" testid="redact" onClick={onRedact}>{words.redact}</Button>
          <Button testid="send-anyway" onClick={onAnyway}>{words.anyway}</Button>
        </div>
      </Box>
    </div>
  );
}
