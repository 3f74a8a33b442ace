// A conversation on the page: its questions, how each comes about, and what came of it.

import { batch, computed, signal } from "@preact/signals";
import { ApiError, json, shown } from "./api";
import { cancel, follow, type Event, type Followed } from "./events";
import { say } from "./live";
import { go, place } from "./route";
import { loadSession } from "./session";
import type {
  Answer, Conversation, Intent, Judgement, KeptTurn, Mode, Plan, Route, Sentence,
  SiloNews, Source, WholeConversation,
} from "./types";
import { w } from "./words";

export const MOST_CHARACTERS = 4000;

export interface Asked {
  question: string;
  route: Route;
  mode: Mode | null;
  intent: Intent | null;
}

export interface Progress {
  began: number;
  lost: boolean;
  rounds: { kind: string; question: string }[];
  silos: Map<string, SiloNews>;
  sources: Source[];
  sentences: Sentence[];
}

export type TurnState = "asking" | "answered" | "kept" | "stopped" | "failed" | "unanswered";

export interface Turn {
  key: number;
  n: number | null;
  at: number;
  asked: Asked;
  state: TurnState;
  progress: Progress | null;
  answer: Answer | null;
  /** The answer's bytes as they came: numbers written anew might no longer fit the signature. */
  raw: string;
  kept: KeptTurn | null;
  error: ApiError | null;
  judgement: Judgement | null;
}

/** The conversation on the page; null before its first question. */
export const current = signal<string | null>(null);
// Those that were open stay as they are while the page does: their passages are nowhere else.
const threads = signal<ReadonlyMap<string, Turn[]>>(new Map());
const NEW = "";
export const turns = computed(() => threads.value.get(current.value ?? NEW) ?? []);
export const conversations = signal<Conversation[]>([]);
export const sought = signal("");
export const listError = signal<ApiError | null>(null);
export const draft = signal("");
export const asking = computed(() => turns.value.find((turn) => turn.state === "asking") ?? null);
/** The conversations in which a question of this tab is under way. */
export const busy = computed(() => new Set(
  [...threads.value].filter(([, thread]) => thread.some((turn) => turn.state === "asking")).map(([id]) => id),
));

let keys = 0;

interface Run {
  control: AbortController;
  at: Followed;
}

const running = new Map<number, Run>();

// -- conversations --------------------------------------------------------------------------------

export async function refreshList(): Promise<void> {
  const query = sought.peek().trim();
  try {
    const told = await json<{ conversations: Conversation[] }>(
      `v1/conversations${query ? `?q=${encodeURIComponent(query)}` : ""}`,
    );
    if (query === sought.peek().trim()) conversations.value = told.conversations;
    listError.value = null;
  } catch (error) {
    listError.value = shown(error);
  }
}

/** An empty page for a new question. */
export function fresh(): void {
  batch(() => {
    // What failed before its conversation began stays only until another question is wanted.
    if (!busy.peek().has(NEW)) forget(NEW);
    turnTo(null);
  });
}

function turnTo(id: string | null): void {
  batch(() => {
    current.value = id;
    looked.value = null;
    panel.value = false;
  });
}

export async function openConversation(id: string): Promise<void> {
  if (current.peek() === id) return;
  if (!threads.peek().has(id)) {
    const whole = await read(id);
    if (!threads.peek().has(id)) keep(id, whole.turns.map(fromKept));
  }
  // Who has gone on to another conversation meanwhile stays there.
  if (place.peek().id === id) turnTo(id);
}

/** What became of a conversation elsewhere, such as in another tab; what this one has seen stays. */
export async function reopen(id: string): Promise<void> {
  const whole = await read(id);
  if (busy.peek().has(id)) return;
  const before = threads.peek().get(id) ?? [];
  keep(id, whole.turns.map((kept) => before.find((turn) => isOf(turn, kept)) ?? fromKept(kept)));
}

/** Whether a turn of the page is what the gateway has kept. */
function isOf(turn: Turn, kept: KeptTurn): boolean {
  if (turn.answer) return kept.query_id !== "" && turn.answer.rounds[0]?.query_id === kept.query_id;
  return turn.n === kept.n && turn.kept?.state === kept.state;
}

function read(id: string): Promise<WholeConversation> {
  return json<WholeConversation>(`v1/conversations/${encodeURIComponent(id)}`);
}

function keep(id: string, thread: Turn[]): void {
  threads.value = new Map(threads.peek()).set(id, thread);
}

function forget(id: string): void {
  const left = new Map(threads.peek());
  left.delete(id);
  threads.value = left;
}

function fromKept(kept: KeptTurn): Turn {
  const state = kept.state === "answered" ? "kept" : "unanswered";
  const asked = { question: kept.question, route: "auto" as Route, mode: null, intent: null };
  keys += 1;
  return {
    key: keys, n: kept.n, at: kept.asked, asked, state, progress: null, answer: null, raw: "",
    kept, error: null, judgement: kept.feedback,
  };
}

export async function rename(id: string, title: string): Promise<void> {
  await json(`v1/conversations/${id}`, { method: "PATCH", body: { title } });
  await refreshList();
}

export async function remove(id: string): Promise<void> {
  // The gateway deletes none in which a question is under way.
  await Promise.all((threads.peek().get(id) ?? []).map(halt));
  await json(`v1/conversations/${id}`, { method: "DELETE" });
  forget(id);
  if (current.peek() === id) {
    fresh();
    go("#/", true);
  }
  await refreshList();
}

// -- asking ---------------------------------------------------------------------------------------

/** Ask a question in the conversation on the page, which begins with its first one. */
export async function ask(asked: Asked): Promise<void> {
  if (asking.peek()) return;
  const turn = begun(asked);
  keep(current.peek() ?? NEW, [...turns.peek(), turn]);
  // Else the evidence of an earlier question would stand beside the new answer.
  looked.value = null;
  say(w().asking);
  const control = new AbortController();
  const at: Followed = { stream: "", last: "0", stopped: false };
  running.set(turn.key, { control, at });
  try {
    const conversation = current.peek() ?? (await begin());
    if (at.stopped) return;
    const body = { ...asked, conversation };
    const end = await follow(
      body, at, control.signal, (event) => hear(turn.key, event), (lost) => line(turn.key, lost),
    );
    if (at.stopped) return;
    finish(turn.key, end);
  } catch (error) {
    if (!control.signal.aborted && !at.stopped) failed(turn.key, shown(error));
  } finally {
    running.delete(turn.key);
    await refreshList();
  }
}

function begun(asked: Asked): Turn {
  keys += 1;
  const progress: Progress = {
    began: performance.now(), lost: false, rounds: [], silos: new Map(), sources: [], sentences: [],
  };
  return {
    key: keys, n: null, at: Date.now(), asked, state: "asking", progress, answer: null, raw: "",
    kept: null, error: null, judgement: null,
  };
}

async function begin(): Promise<string> {
  const made = await json<Conversation>("v1/conversations", { method: "POST", body: {} });
  batch(() => {
    keep(made.id, threads.peek().get(NEW) ?? []);
    forget(NEW);
    // Who has gone on to another conversation meanwhile stays there.
    if (current.peek() === null) current.value = made.id;
  });
  const here = ["ask", "conversation"].includes(place.peek().view);
  if (current.peek() === made.id && here) go(`#/c/${made.id}`, true);
  return made.id;
}

function find(key: number): Turn | undefined {
  for (const thread of threads.peek().values()) {
    const turn = thread.findLast((item) => item.key === key);
    if (turn) return turn;
  }
  return undefined;
}

function change(key: number, news: Partial<Turn>): void {
  for (const [id, thread] of threads.peek()) {
    if (!thread.some((turn) => turn.key === key)) continue;
    keep(id, thread.map((turn) => (turn.key === key ? { ...turn, ...news } : turn)));
  }
}

function progressed(key: number, news: Partial<Progress>): void {
  const progress = find(key)?.progress;
  if (progress) change(key, { progress: { ...progress, ...news } });
}

function line(key: number, lost: boolean): void {
  if (find(key)?.progress?.lost === lost) return;
  progressed(key, { lost });
  if (lost) tell(key, w().lost);
}

/** Speak of a question that is on the page; of another one it would only confuse. */
function tell(key: number, text: string): void {
  if (turns.peek().some((turn) => turn.key === key)) say(text);
}

function hear(key: number, { name, data }: Event): void {
  const progress = find(key)?.progress;
  if (!progress) return;
  const told = JSON.parse(data) as unknown;
  if (name === "plan") {
    // It has a title by now, and a place among the others.
    if (!progress.rounds.length) void refreshList();
    const { kind, question, plan } = told as { kind: string; question: string; plan: Plan };
    const silos = new Map(progress.silos);
    for (const silo of plan.asked) {
      silos.set(silo, silos.get(silo) ?? { silo, state: "asked", ms: 0, passages: 0, detail: "" });
    }
    progressed(key, { silos, rounds: [...progress.rounds, { kind, question }] });
    tell(key, w().stages.asking(silos.size));
  } else if (name === "silo") {
    const news = told as SiloNews;
    const before = progress.silos.get(news.silo)?.passages ?? 0;
    const passages = news.state === "released" ? before + news.passages : before;
    const state = news.state !== "released" && before ? "released" : news.state;
    progressed(key, { silos: new Map(progress.silos).set(news.silo, { ...news, state, passages }) });
  } else if (name === "source") {
    progressed(key, { sources: [...progress.sources, told as Source] });
  } else if (name === "sentence") {
    const sentence = told as Sentence;
    progressed(key, { sentences: [...progress.sentences, sentence] });
    tell(key, sentence.text);
  }
}

function finish(key: number, { name, data }: Event): void {
  if (name === "error") {
    const { error } = JSON.parse(data) as { error: { code: string; message: string; hint: string } };
    failed(key, new ApiError(error.code, error.message, error.hint));
    // It may have ended with the session: then the page asks who is there.
    if (error.code === "denied") void loadSession().catch(() => {});
    return;
  }
  const answer = JSON.parse(data) as Answer;
  change(key, { state: "answered", answer, raw: data });
  const cited = new Set(answer.sentences.flatMap((sentence) => sentence.citations));
  const missing = answer.missing.length ? ` ${w().missing.title(answer.missing.length, answer.plan.asked.length)}.` : "";
  const text = answer.abstained ? `${w().notFound}.` : w().answered(answer.sentences.length, cited.size);
  if (turns.peek().some((turn) => turn.key === key)) say(text + missing);
  else say(w().answeredElsewhere(find(key)?.asked.question ?? ""));
}

function failed(key: number, error: ApiError): void {
  change(key, { state: "failed", error });
  const { titles, question, other } = w().errors;
  tell(key, error.code === "usage" ? question : titles[error.code] ?? other);
}

/** Stop the question under way: the gateway tells hub and silos. */
export function stop(): void {
  const turn = asking.peek();
  if (!turn) return;
  void halt(turn);
  say(w().stopped);
}

async function halt(turn: Turn): Promise<void> {
  const run = running.get(turn.key);
  if (!run || turn.state !== "asking") return;
  run.at.stopped = true;
  change(turn.key, { state: "stopped" });
  // One that has no name yet is cancelled as soon as it has: to hang up alone would let it go on.
  if (run.at.stream) {
    run.control.abort();
    await cancel(run.at.stream);
  }
}

/** Ask a question of the page again, as it was asked or of all silos. */
export function again(turn: Turn, route?: Route): void {
  void ask({ ...turn.asked, route: route ?? turn.asked.route });
}

export async function judge(turn: Turn, judgement: Judgement): Promise<void> {
  const id = holder(turn.key);
  const n = turn.n ?? (await numberOf(turn, id));
  const path = `v1/conversations/${encodeURIComponent(id)}/turns/${n}/feedback`;
  await json(path, { method: "PUT", body: judgement });
  change(turn.key, { judgement, n });
}

/** The conversation that a turn of the page belongs to. */
function holder(key: number): string {
  return [...threads.peek()].find(([, thread]) => thread.some((turn) => turn.key === key))?.[0] ?? NEW;
}

/** The number of an answer as its conversation counts: another tab may have asked in it too. */
async function numberOf(turn: Turn, id: string): Promise<number> {
  const known = turn.answer?.rounds[0]?.query_id ?? "";
  const { turns: all } = await read(id);
  const same = all.findLast((kept) => kept.query_id === known && kept.question === turn.asked.question);
  if (!same) throw new ApiError("usage", w().judge.gone);
  return same.n;
}

// -- evidence -------------------------------------------------------------------------------------

export interface Looked {
  key: number;
  n: number;
  sentence: number;
}

export type EvidenceTab = "sources" | "why" | "left" | "receipt";

/** What of the evidence the panel shows. */
export const tab = signal<EvidenceTab>("sources");
/** Which citation the evidence panel shows. */
export const looked = signal<Looked | null>(null);
/** Whether the panel lies over the page, where there is no room beside it. */
export const panel = signal(false);

/** The turn whose evidence is shown: that of the citation, else the last that was answered. */
export const shownTurn = computed(() => {
  const at = looked.value;
  const chosen = at && turns.value.find((turn) => turn.key === at.key);
  return chosen ?? turns.value.findLast((turn) => turn.state === "answered") ?? null;
});
