// Beside an answer: its sources with what was quoted, why its silos were asked, what left them.

import { useState } from "preact/hooks";
import { json, shown, type ApiError } from "./api";
import { Box, Button, Facts, Failure, Table, Tabs } from "./parts";
import { download, pieces } from "./text";
import { looked, shownTurn, panel, tab, turns, type Turn } from "./thread";
import { closePanel } from "./cite";
import type { Answer, Missing, ReceiptCheck, Source } from "./types";
import { aged, dated, decimal, number, percent, w, when } from "./words";

// On paper, an answer comes with its sources.
addEventListener("beforeprint", () => (tab.value = "sources"));

export function Evidence() {
  const words = w().evidence;
  const turn = shownTurn.value;
  const answer = turn?.answer;
  const several = turns.value.filter((item) => item.answer).length > 1;
  return (
    <aside
      id="evidence" class={`evidence ${panel.value ? "open" : ""}`} aria-label={words.label}
      tabIndex={-1} data-testid="evidence"
    >
      <div class="evidence-head">
        <h2>{words.label}</h2>
        <Button icon="close" label={w().close} kind="plain" class="narrow-only" onClick={closePanel} testid="close-evidence" />
      </div>
      {turn && several && <p class="small evidence-of" data-testid="evidence-of">{words.of(turn.asked.question)}</p>}
      {turn && answer ? (
        <Tabs
          label={words.label} value={tab.value} onChange={(value) => (tab.value = value)}
          among={[["sources", words.sources], ["why", words.why], ["left", words.left], ["receipt", words.receipt]]}
        >
          {tab.value === "sources" && <Sources turn={turn} answer={answer} />}
          {tab.value === "why" && <Why answer={answer} />}
          {tab.value === "left" && <Left answer={answer} />}
          {tab.value === "receipt" && <Receipt turn={turn} answer={answer} />}
        </Tabs>
      ) : (
        <p class="small">{words.none}</p>
      )}
    </aside>
  );
}

// -- sources --------------------------------------------------------------------------------------

function Sources({ turn, answer }: { turn: Turn; answer: Answer }) {
  const cited = new Set(answer.sentences.flatMap((sentence) => sentence.citations));
  const first = answer.sources.filter((source) => cited.has(source.n));
  const rest = answer.sources.filter((source) => !cited.has(source.n));
  const inRest = rest.some((source) => source.n === looked.value?.n);
  // What was found for a question that is not answered would look like evidence for one.
  if (answer.abstained) return <p class="small">{w().notFound}.</p>;
  return (
    <div class="sources">
      {first.map((source) => <Card key={source.n} turn={turn} answer={answer} source={source} />)}
      {rest.length > 0 && (
        <details class="rest" open={inRest}>
          <summary>{w().evidence.also(rest.length)}</summary>
          {rest.map((source) => <Card key={source.n} turn={turn} answer={answer} source={source} />)}
        </details>
      )}
    </div>
  );
}

function Card({ turn, answer, source }: { turn: Turn; answer: Answer; source: Source }) {
  const words = w().evidence;
  const at = looked.value;
  const current = at?.key === turn.key && at.n === source.n;
  const sentence = current ? answer.sentences[at.sentence] ?? null : null;
  const cited = answer.sentences.some((item) => item.citations.includes(source.n));
  return (
    <details
      class={`card ${current ? "current" : ""}`} id={`source-${turn.key}-${source.n}`}
      open={cited || current} data-testid="source" data-n={source.n}
    >
      <summary>
        <span class="number">{source.n}</span>{" "}
        <h3>{source.title || source.document}</h3>
      </summary>
      <p class="where">
        <strong>{source.silo}</strong>
        {source.section && <span> · {source.section}</span>}
        <span> · {source.dated ? dated(source.dated) : words.noDate}</span>
        {source.dated && aged(source.dated) && <span> ({aged(source.dated)})</span>}
      </p>
      <p class="text" data-testid="passage">
        {pieces(source, answer.sentences, sentence).map(({ text, mark }, n) =>
          mark ? <mark key={n} class={mark}>{text}</mark> : text,
        )}
      </p>
      <p class="small">
        {source.document}, {words.place(source.start, source.end)} · {words.score} {decimal(source.score)}
      </p>
      {current && sentence && (
        <Button kind="plain" class="back" testid="back-to-sentence" onClick={closePanel}>{words.backTo}</Button>
      )}
    </details>
  );
}

// -- why ------------------------------------------------------------------------------------------

function Why({ answer }: { answer: Answer }) {
  const words = w().why;
  const { plan } = answer;
  const lost = new Map(answer.missing.map((item) => [item.silo, item]));
  const row = (word: string) => (silo: string) => [silo, word, <Reason key="r" why={plan.reasons[silo] ?? ""} missing={lost.get(silo)} />];
  const rows = [...plan.asked.map(row(words.asked)), ...plan.skipped.map(row(words.skipped))];
  return (
    <div data-testid="why">
      <p>{answer.mode === "sealed" ? words.sealed : words.open}</p>
      <p>{promise(answer)}</p>
      {plan.notes.map((note) => <p key={note}>{note}</p>)}
      <Table caption={w().evidence.why} hidden head={[w().evidence.silo, words.answer, words.reason]} rows={rows} />
    </div>
  );
}

function Reason({ why, missing }: { why: string; missing: Missing | undefined }) {
  const { reasons } = w().missing;
  return (
    <>
      {why}
      {missing && (
        <div class="fault">{w().siloStates.missing}: {missing.detail || (reasons[missing.reason] ?? missing.reason)}</div>
      )}
    </>
  );
}

function promise({ plan }: Answer): string {
  const words = w().why;
  if (plan.audit) return words.audit;
  if (plan.coverage !== null) return words.promise(percent(plan.coverage));
  return plan.skipped.length ? words.noPromise : "";
}

// -- what left ------------------------------------------------------------------------------------

function Left({ answer }: { answer: Answer }) {
  const words = w().left;
  const lost = new Set(answer.missing.map((item) => item.silo));
  const total = Object.values(answer.released).reduce((sum, count) => sum + count, 0);
  const asked = [...new Set(answer.rounds.flatMap((round) => round.asked))];
  const rows = asked.map((silo) => {
    const unknown = lost.has(silo) && !(silo in answer.released) ? words.missing : number(0);
    const count = (of: Record<string, number>): string => (silo in of ? number(of[silo] ?? 0) : unknown);
    return [silo, count(answer.released), count(answer.withheld)];
  });
  const gave = Object.keys(answer.released).filter((silo) => answer.released[silo]);
  return (
    <div data-testid="left">
      <p>{words.total(total)} {answer.abstained && total > 0 && words.unseen}</p>
      <Table caption={w().evidence.left} hidden head={[w().evidence.silo, words.released, words.withheld]} rows={rows} />
      {total > 0 && <p class="small">{words.rules}</p>}
      {gave.map((silo) => {
        const passages = answer.sources.filter((source) => source.silo === silo);
        if (answer.abstained || !passages.length) return null;
        return (
          <section key={silo}>
            <h3>{silo}</h3>
            <ul class="released">
              {passages.map((source) => (
                <li key={source.n}>
                  <span class="number">{source.n}</span> {source.title || source.document}{" "}
                  <span class="small">{source.document}, {w().evidence.place(source.start, source.end)}</span>
                </li>
              ))}
            </ul>
          </section>
        );
      })}
      <Facts of={answer.rounds.map((round): [string, string] => [words.id, round.query_id])} />
    </div>
  );
}

// -- receipt --------------------------------------------------------------------------------------

function Receipt({ turn, answer }: { turn: Turn; answer: Answer }) {
  const words = w().receipt;
  const [checked, setChecked] = useState<ReceiptCheck | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const body = answer.receipt.body ?? {};
  const name = `siloquy-${String(answer.rounds[0]?.query_id ?? "answer").slice(0, 12)}.json`;
  const check = async (raw: string): Promise<void> => {
    setBusy(true);
    setError(null);
    setChecked(null);
    try {
      setChecked(await json<ReceiptCheck>("v1/receipts/check", { method: "POST", raw }));
    } catch (caught) {
      setError(shown(caught));
    }
    setBusy(false);
  };
  const stages = Object.entries(answer.timings_ms).map(([stage, ms]) => `${stage} ${Math.round(ms)} ms`);
  return (
    <div data-testid="receipt">
      <p>{words.text}</p>
      <Facts of={[
        [words.made, body.created ? when(body.created) : when(turn.at)],
        [words.by, answer.model],
        [words.federation, body.federation ?? ""],
        [words.timings, stages.join(", ")],
      ]} />
      <div class="row">
        <Button testid="download-receipt" onClick={() => download(name, turn.raw, "application/json")}>{words.download}</Button>
        <Button testid="check-receipt" disabled={busy} onClick={() => void check(turn.raw)}>{busy ? words.checking : words.check}</Button>
      </div>
      <p class="small">{words.later(name)}</p>
      <div aria-live="polite">
        {checked && (
          <Box kind={checked.holds ? "green" : "red"} title={checked.holds ? words.holds : words.broken} testid="receipt-check">
            <ul class="plain">
              {checked.checks.map((item) => (
                <li key={item.name}>{item.holds ? "✓" : "✗"} {item.name}{item.detail && `: ${item.detail}`}</li>
              ))}
            </ul>
          </Box>
        )}
        {error && <Failure error={error} quiet />}
      </div>
    </div>
  );
}
