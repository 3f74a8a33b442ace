// The silo console: health, policy in words, pause, ledger, documents.

import { useState } from "preact/hooks";
import { json, shown, type ApiError } from "./api";
import { Page, useLoaded } from "./load";
import { Box, Button, Dialog, Facts, Failure, Field, Table } from "./parts";
import { number, w, when } from "./words";

interface Budget {
  gateway: string;
  spent_today: number;
  limit: number;
}

interface Silo {
  node: string;
  organisation: string;
  fingerprint: string;
  rostered: string;
  serving: boolean;
  line: boolean | null;
  health: { status: string; lacking: string[] };
  paused: null | { since: number; by: string; reason: string };
  documents: number;
  passages: number;
  withdrawn: number;
  quarantined: { source: string; reason: string }[];
  policy: { key: string; words: string; code: string; values: (string | number)[] }[];
  restart_needed: boolean;
  budget: Budget[];
  sealed_budget: Budget[];
  privacy: Record<string, unknown>;
}

const EVERY_MS = 5000;

export function SiloPage() {
  const loaded = useLoaded<Silo>("v1/silo", EVERY_MS);
  const words = w().silo;
  const told = loaded.value;
  return (
    <Page title={told ? told.node : words.title} loaded={loaded} testid="silo">
      {told && (
        <>
          <Pause told={told} again={loaded.again} />
          {told.restart_needed && <Box kind="amber" testid="restart"><p>{words.restart}</p></Box>}
          <Facts of={[
            [words.health, told.health.status === "ok" ? words.well : words.lacking(told.health.lacking.join(", "))],
            [words.serving, told.serving ? w().yes : words.notServing],
            [words.line, told.line === null ? words.lineUnknown : told.line ? words.lineUp : words.lineDown],
            [words.rostered, told.rostered],
            [w().federation.fingerprint, <code key="f">{told.fingerprint}</code>],
            [words.documents, number(told.documents)],
            [words.passages, number(told.passages)],
            [words.withdrawn, number(told.withdrawn)],
          ]} />
          <section>
            <h2>{words.policy}</h2>
            <p class="small">{words.policyText}</p>
            <ul class="policy" data-testid="policy">
              {told.policy.map((item) => (
                <li key={item.key}>{words.said[item.code]?.(...item.values) ?? item.words} <code class="small">{item.key}</code></li>
              ))}
            </ul>
          </section>
          <Budgets title={words.budget} of={told.budget} />
          <Budgets title={words.sealedBudget} of={told.sealed_budget} />
          {told.quarantined.length > 0 && (
            <Table caption={`${words.quarantined}: ${number(told.quarantined.length)}`} head={[words.source, words.reason]}
              rows={told.quarantined.map((item) => [item.source, item.reason])} />
          )}
        </>
      )}
    </Page>
  );
}

function Budgets({ title, of }: { title: string; of: Budget[] }) {
  const words = w().silo;
  if (!of.length) return null;
  return (
    <Table caption={title} head={[words.gateway, words.spent, words.limit]}
      rows={of.map((item) => [item.gateway, number(item.spent_today), number(item.limit)])} />
  );
}

function Pause({ told, again }: { told: Silo; again: () => void }) {
  const words = w().silo;
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const act = async (method: "POST" | "DELETE", body?: unknown): Promise<void> => {
    try {
      await json("v1/silo/pause", { method, body });
      setOpen(false);
      setError(null);
    } catch (caught) {
      setError(shown(caught));
    }
    again();
  };
  if (told.paused) {
    return (
      <Box kind="red" title={words.pausedTitle} testid="paused">
        <p>{words.pausedBy(told.paused.by, when(told.paused.since))} {told.paused.reason}</p>
        {error && <Failure error={error} />}
        <Button kind="primary" testid="resume" onClick={() => void act("DELETE")}>{words.resume}</Button>
      </Box>
    );
  }
  return (
    <div class="row spaced">
      <Button kind="danger" icon="stop" testid="pause" onClick={() => setOpen(true)}>{words.pause}</Button>
      <span class="small">{words.pauseText}</span>
      {open && (
        <Dialog title={words.pauseSure} onClose={() => setOpen(false)} testid="pause-dialog" urgent>
          <p>{words.pauseText}</p>
          <Field label={words.pauseReason} value={reason} onInput={setReason} testid="pause-reason" />
          {error && <Failure error={error} />}
          <div class="row">
            <Button kind="danger" testid="pause-sure" onClick={() => void act("POST", { reason })}>{words.pause}</Button>
            <Button onClick={() => setOpen(false)}>{w().cancel}</Button>
          </div>
        </Dialog>
      )}
    </div>
  );
}

// -- ledger ---------------------------------------------------------------------------------------

interface Entry {
  n: number;
  at: number;
  gateway: string;
  requester: string;
  purpose: string;
  query_id: string;
  passages: { document: string; title?: string; start?: number; end?: number }[];
  withheld: Record<string, number>;
  hash: string;
}

interface Ledger {
  entries: Entry[];
  total: number;
  next: number | null;
}

interface Verified {
  holds: boolean;
  entries: number;
  head: string;
  detail: string;
}

export function LedgerPage() {
  const words = w().ledger;
  const [document, setDocument] = useState("");
  const [date, setDate] = useState("");
  const [before, setBefore] = useState<number | null>(null);
  const [filter, setFilter] = useState("");
  const path = `v1/silo/ledger?limit=50${before ? `&before=${before}` : ""}${filter}`;
  const loaded = useLoaded<Ledger>(path);
  const told = loaded.value;
  return (
    <Page title={words.title} text={words.text} loaded={loaded} testid="ledger">
      <Verify />
      <form class="row filter" onSubmit={(event) => {
        event.preventDefault();
        setBefore(null);
        const parts = Object.entries({ document, day: date }).filter(([, value]) => value);
        setFilter(parts.map(([name, value]) => `&${name}=${encodeURIComponent(value)}`).join(""));
      }}>
        <Field label={words.filterDocument} value={document} onInput={setDocument} />
        <Field label={words.filterDay} value={date} onInput={setDate} type="date" />
        <Button type="submit">{words.filter}</Button>
      </form>
      {told && (told.entries.length ? (
        <>
          <Table caption={words.title} hidden testid="ledger-table"
            head={[words.entry, words.at, words.gateway, words.requester, words.purpose, words.passages, words.withheld, words.question]}
            rows={told.entries.map((item) => [
              number(item.n), when(item.at), item.gateway, item.requester, item.purpose,
              <ul class="plain" key="p">{item.passages.map((passage, at) => <li key={at}>{passage.title || passage.document}</li>)}</ul>,
              Object.entries(item.withheld).map(([rule, count]) => `${rule} ${count}`).join(", "),
              <code class="small whole" key="q">{item.query_id.slice(0, 12)}</code>,
            ])} />
          <div class="row">
            {before !== null && <Button onClick={() => setBefore(null)}>{words.newest}</Button>}
            {told.next !== null && <Button onClick={() => setBefore(told.next)}>{words.older}</Button>}
          </div>
        </>
      ) : <p>{filter ? words.noneFound : words.empty}</p>)}
    </Page>
  );
}

function Verify() {
  const words = w().ledger;
  const [done, setDone] = useState<Verified | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const verify = async (): Promise<void> => {
    setBusy(true);
    try {
      setDone(await json<Verified>("v1/silo/ledger/verify", { method: "POST", body: {} }));
      setError(null);
    } catch (caught) {
      setError(shown(caught));
    }
    setBusy(false);
  };
  return (
    <div class="stack" aria-live="polite">
      <Button kind="primary" testid="verify-ledger" disabled={busy} onClick={() => void verify()}>
        {busy ? words.verifying : words.verify}
      </Button>
      {done && (
        <Box kind={done.holds ? "green" : "red"} title={done.holds ? words.holds(done.entries, done.head.slice(0, 16)) : words.broken} testid="ledger-verified">
          {done.detail && <p>{done.detail}</p>}
        </Box>
      )}
      {error && <Failure error={error} quiet />}
    </div>
  );
}

// -- documents ------------------------------------------------------------------------------------

interface Documents {
  documents: { id: string; title: string; passages: number; collection: string }[];
  next: string | null;
}

export function DocumentsPage() {
  const words = w().documents;
  const [query, setQuery] = useState("");
  const [after, setAfter] = useState("");
  const path = `v1/silo/documents?limit=100&q=${encodeURIComponent(query)}${after ? `&after=${encodeURIComponent(after)}` : ""}`;
  const loaded = useLoaded<Documents>(path);
  const told = loaded.value;
  return (
    <Page title={words.title} loaded={loaded} testid="documents">
      <Field label={words.search} type="search" value={query} onInput={(value) => {
        setAfter("");
        setQuery(value);
      }} />
      {told && (told.documents.length ? (
        <>
          <Table caption={words.title} hidden head={[words.id, words.name, words.passages, words.collection]}
            rows={told.documents.map((item) => [item.id, item.title, number(item.passages), item.collection])} />
          {told.next && <Button onClick={() => setAfter(told.next ?? "")}>{words.more}</Button>}
        </>
      ) : <p>{words.empty}</p>)}
    </Page>
  );
}
