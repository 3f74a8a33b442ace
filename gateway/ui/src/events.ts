// A stream of server-sent events, taken up again where the line broke.

import { ApiError, call } from "./api";

export interface Event {
  name: string;
  data: string;
  id: string;
}

export interface Followed {
  stream: string;
  last: string;
  stopped: boolean;
}

const RETRY_MS = 1000;
const MOST_RETRIES = 20;

/** Let the gateway cancel a question, at the silos too. */
export async function cancel(stream: string): Promise<void> {
  await call(`v1/ask/${stream}`, { method: "DELETE" }).catch(() => {});
}

/**
 * The last event of a question's stream; `told` hears all others.
 *
 * `lost` is called with `true` when the line breaks and with `false` when it is up. A question that
 * was stopped before it had a name is cancelled here, and ends as one whose line was cut.
 */
export async function follow(
  body: unknown,
  at: Followed,
  signal: AbortSignal,
  told: (event: Event) => void,
  lost: (broken: boolean) => void,
): Promise<Event> {
  for (let tries = 0; tries < MOST_RETRIES; tries += 1) {
    const before = at.last;
    try {
      const reply = await (at.stream ? resume(at, signal) : begin(body, signal));
      lost(false);
      at.stream = reply.headers.get("X-Stream-Id") ?? at.stream;
      if (at.stopped) {
        void cancel(at.stream);
        void reply.body?.cancel();
        break;
      }
      const end = await readEvents(reply.body, at, told);
      if (end) return end;
    } catch (error) {
      if (signal.aborted) throw error;
      // A refusal is an answer; a question that never arrived is not asked twice by itself.
      // A gateway that was restarted knows nothing of it; the question itself is as good as before.
      if (error instanceof ApiError && at.stream && error.status === 404) throw new ApiError("lost", "");
      // What a proxy says while the gateway is away is none.
      const refused = error instanceof ApiError && !["gateway", "reply"].includes(error.code);
      if (refused || (error instanceof ApiError && !at.stream)) throw error;
    }
    if (at.last !== before) tries = 0;
    lost(true);
    await pause(RETRY_MS, signal);
  }
  throw new ApiError("gateway", "", "");
}

function begin(body: unknown, signal: AbortSignal): Promise<Response> {
  return call("v1/ask", { method: "POST", body, accept: "text/event-stream", signal });
}

function resume({ stream, last }: Followed, signal: AbortSignal): Promise<Response> {
  const headers = { "Last-Event-ID": last };
  return call(`v1/ask/${stream}`, { accept: "text/event-stream", headers, signal });
}

async function readEvents(
  body: ReadableStream<Uint8Array> | null,
  at: Followed,
  told: (event: Event) => void,
): Promise<Event | null> {
  if (!body) return null;
  const reader = body.pipeThrough(new TextDecoderStream() as never).getReader() as ReadableStreamDefaultReader<string>;
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return null;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parse(block);
      if (!event) continue;
      if (event.name === "final" || event.name === "error") return event;
      told(event);
      at.last = event.id || at.last;
    }
  }
}

function parse(block: string): Event | null {
  const event: Event = { name: "", data: "", id: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("data: ")) event.data += line.slice(6);
    else if (line.startsWith("id: ")) event.id = line.slice(4);
  }
  return event.name ? event : null;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}
