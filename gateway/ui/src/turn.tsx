// One question of a conversation: how it comes about, then its answer with all that belongs to it.

import { useState } from "preact/hooks";
import type { ApiError } from "./api";
import { Cite, look, openPanel } from "./cite";
import { say } from "./live";
import { Box, Button, Failure, Icon } from "./parts";
import { JudgeForm } from "./judge";
import { asText } from "./text";
import { again, ask, asking, type Turn } from "./thread";
import type {
  Answer, Conflict, KeptTurn, Missing, Reference, Sentence, Source,
} from "./types";
import { propose, wanted } from "./composer";
import { Way } from "./way";
import { aged, dated, listed, percent, w, when } from "./words";

export function TurnView({ turn }: { turn: Turn }) {
  return (
    <article class="turn" data-testid="turn" data-state={turn.state}>
      <h2 class="asked" data-testid="asked">{turn.asked.question}</h2>
      <Body turn={turn} />
    </article>
  );
}

function Body({ turn }: { turn: Turn }) {
  const words = w();
  switch (turn.state) {
    case "asking":
      return turn.progress && <Way progress={turn.progress} />;
    case "answered":
      return turn.answer && <Answered turn={turn} answer={turn.answer} />;
    case "kept":
      return turn.kept && <Kept turn={turn} kept={turn.kept} />;
    case "failed":
      return (
        turn.error && (
          <Failure error={turn.error} title={faultOf(turn.error)} quiet>
            {turn.error.code !== "usage" && <Again turn={turn} />}
            <Edit turn={turn} />
          </Failure>
        )
      );
    case "stopped":
      return (
        <Box title={words.stopped} testid="stopped">
          <p>{words.stoppedText}</p>
          <div class="row"><Again turn={turn} /><Edit turn={turn} /></div>
        </Box>
      );
    default:
      return (
        <Box testid="unanswered">
          <p>{turn.kept?.state === "asking" ? words.stillAsked : words.unanswered}</p>
          <div class="row"><Again turn={turn} /></div>
        </Box>
      );
  }
}

/** What is wrong with a question, in other words than with all else. */
const faultOf = (error: ApiError): string | undefined =>
  error.code === "usage" ? w().errors.question : undefined;

function Edit({ turn }: { turn: Turn }) {
  return <Button testid="edit" onClick={() => propose(turn.asked.question)}>{w().editQuestion}</Button>;
}

interface AgainProps {
  turn: Turn;
  all?: boolean;
  quiet?: boolean;
}

function Again({ turn, all = false, quiet = false }: AgainProps) {
  return (
    <Button kind={quiet ? "" : "primary"} testid={all ? "ask-all" : "again"} disabled={asking.value !== null}
      onClick={() => {
        // How one of the history was asked is not kept: it is asked as the page says now.
        if (turn.kept) void ask(wanted(turn.asked.question));
        else again(turn, all ? "all" : undefined);
      }}>
      {all ? w().askAll : w().askAgain}
    </Button>
  );
}

// -- the answer -----------------------------------------------------------------------------------

function Answered({ turn, answer }: { turn: Turn; answer: Answer }) {
  const words = w();
  const partial = answer.missing.length > 0;
  const title = answer.abstained
    ? partial ? words.notFoundPartial : words.notFound
    : partial ? words.partial : words.answer;
  return (
    <div class="answer" data-testid="answer">
      <h3 class="title">
        {title}{" "}
        <span class="small print-only">{when(turn.at)}</span>{" "}
        {answer.mode === "sealed" && <span class="badge" data-testid="sealed"><Icon name="lock" /> {words.sealedBadge}</span>}
      </h3>
      {answer.question !== turn.asked.question && (
        <p class="small" data-testid="understood">{words.understood}: {answer.question}</p>
      )}
      <MissingBox missing={answer.missing} asked={answer.plan.asked.length} />
      {answer.abstained ? <Abstained turn={turn} answer={answer} /> : <Sentences turn={turn} answer={answer} />}
      <Conflicts turn={turn} answer={answer} />
      <Notes answer={answer} />
      <Next suggestions={answer.suggestions ?? []} />
      <Actions turn={turn} answer={answer} />
      {!answer.abstained && (
        <div class="print-only"><References of={answer.sources.filter(({ n }) => isCited(answer, n))} /></div>
      )}
      <JudgeForm turn={turn} />
    </div>
  );
}

function MissingBox({ missing, asked }: { missing: Missing[]; asked: number }) {
  const words = w().missing;
  if (!missing.length) return null;
  return (
    <Box kind="red" title={words.title(missing.length, asked)} testid="missing">
      <ul>
        {missing.length <= FEW_MISSING
          ? missing.map(({ silo, reason, detail }) => (
              <li key={silo}>
                <strong>{silo}</strong> {words.reasons[reason] ?? reason}
                {detail && <span class="small"> ({detail})</span>}
              </li>
            ))
          : byReason(missing).map(([reason, silos]) => (
              <li key={reason}><strong>{words.reasons[reason] ?? reason}</strong>: {listed(silos)}</li>
            ))}
      </ul>
    </Box>
  );
}

// More of them, each on a line of its own, would push the answer out of sight.
const FEW_MISSING = 3;

function byReason(missing: Missing[]): [string, string[]][] {
  const found = new Map<string, string[]>();
  for (const { silo, reason } of missing) found.set(reason, [...(found.get(reason) ?? []), silo]);
  return [...found];
}

function Abstained({ turn, answer }: { turn: Turn; answer: Answer }) {
  const words = w();
  const lost = new Set(answer.missing.map((item) => item.silo));
  const heard = answer.plan.asked.filter((silo) => !lost.has(silo));
  const { skipped } = answer.plan;
  return (
    <Box kind="amber" testid="abstained">
      <p>{answer.answer}</p>
      <p>{words.searched(heard.length, listed(heard))} {skipped.length > 0 && words.notSearched(listed(skipped))}</p>
      <h4>{words.toTry}</h4>
      <ul>
        <li>{words.tryRephrase}</li>
        <li>{words.trySmaller}</li>
        {skipped.length > 0 && <li>{words.tryAll}</li>}
        {lost.size > 0 && <li>{words.tryMissing}</li>}
      </ul>
      <div class="row">
        {skipped.length > 0 && <Again turn={turn} all />}
        {lost.size > 0 && <Again turn={turn} />}
      </div>
    </Box>
  );
}

function Sentences({ turn, answer }: { turn: Turn; answer: Answer }) {
  const byNumber = new Map(answer.sources.map((source) => [source.n, source]));
  return (
    <ol class="sentences" data-testid="sentences">
      {answer.sentences.map((sentence, at) => (
        <li key={at}>
          {sentence.text}{" "}
          <span class="cites">
            {sentence.citations.map((n) => (
              <Cite key={n} turn={turn} sentence={at} n={n} source={byNumber.get(n)} />
            ))}
          </span>
          <Support sentence={sentence} extractive={answer.extractive} />
        </li>
      ))}
    </ol>
  );
}

function Support({ sentence, extractive }: { sentence: Sentence; extractive: boolean }) {
  const words = w();
  const text = extractive ? words.quoted : words.support(percent(sentence.support));
  const weak = !extractive && sentence.support < 0.8;
  return <span class={`support ${weak ? "weak" : ""}`} title={words.supportTitle}>{text}</span>;
}

const isCited = (answer: Answer, n: number): boolean =>
  answer.sentences.some((sentence) => sentence.citations.includes(n));

function Conflicts({ turn, answer }: { turn: Turn; answer: Answer }) {
  const words = w().conflicts;
  if (!answer.conflicts.length) return null;
  return (
    <Box kind="amber" title={words.title} testid="conflicts">
      {answer.conflicts.map((conflict, at) => (
        <div class="conflict" key={at}>
          <h4>{words[conflict.kind]}: {conflict.detail}</h4>
          <Sides turn={turn} conflict={conflict} sources={answer.sources} />
        </div>
      ))}
    </Box>
  );
}

function Sides({ turn, conflict, sources }: { turn: Turn; conflict: Conflict; sources: Source[] }) {
  return (
    <div class="sides">
      {conflict.sides.map(({ n, start, end }) => {
        const source = sources.find((item) => item.n === n);
        if (!source) return null;
        return (
          <figure key={`${n}-${start}`}>
            <figcaption>
              <button type="button" class="cite" aria-label={w().source(n, source.title)} onClick={() => look(turn, n, -1)}>{n}</button>{" "}
              <strong>{source.silo}</strong>
              {source.dated && <span class="small"> {dated(source.dated)} {aged(source.dated) && `(${aged(source.dated)})`}</span>}
            </figcaption>
            <blockquote>{[...source.text].slice(start, end).join("")}</blockquote>
          </figure>
        );
      })}
    </div>
  );
}

function Notes({ answer }: { answer: Answer }) {
  const words = w();
  const notes = [...answer.notes];
  if (answer.dropped) notes.push(words.dropped(answer.dropped));
  const flagged = Object.entries(answer.flagged);
  return (
    <>
      {notes.length > 0 && (
        <Box title={words.notes} testid="notes">
          {notes.map((note) => <p key={note}>{note}</p>)}
        </Box>
      )}
      {flagged.length > 0 && (
        <Box kind="amber" title={words.flagged} testid="flagged">
          <ul>{flagged.map(([silo, why]) => <li key={silo}><strong>{silo}</strong>: {why}</li>)}</ul>
        </Box>
      )}
    </>
  );
}

function Next({ suggestions }: { suggestions: string[] }) {
  if (!suggestions.length) return null;
  return (
    <div class="next" data-testid="next">
      <h4>{w().next}</h4>
      <ul>
        {suggestions.map((text) => (
          <li key={text}>
            <Button kind="plain" icon="right" onClick={() => propose(text)}>{text}</Button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Actions({ turn, answer }: { turn: Turn; answer: Answer }) {
  const [done, setDone] = useState("");
  const words = w();
  const tell = (text: string): void => {
    setDone(text);
    say(text);
  };
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(asText(answer, turn.asked.question, turn.at));
      tell(words.copied);
    } catch {
      tell(words.notCopied);
    }
  };
  return (
    <div class="row actions">
      {!answer.abstained && <Button onClick={() => void copy()} testid="copy">{words.copy}</Button>}
      <Button testid="show-evidence" onClick={() => {
        openPanel(turn, 0, -1);
        requestAnimationFrame(() => document.getElementById("evidence")?.focus());
      }}>{words.evidence.label}</Button>
      {!answer.abstained && <Again turn={turn} quiet />}
      <span class="small">{done}</span>
    </div>
  );
}

// -- one from the history -------------------------------------------------------------------------

function Kept({ turn, kept }: { turn: Turn; kept: KeptTurn }) {
  const words = w();
  return (
    <div class="answer" data-testid="kept">
      <h3 class="title">{kept.abstained ? words.notFound : words.answer} <span class="small">{when(kept.asked)}</span></h3>
      {kept.understood && kept.understood !== kept.question && (
        <p class="small">{words.understood}: {kept.understood}</p>
      )}
      <MissingBox missing={kept.missing} asked={0} />
      <p class="kept-text">{kept.answer}</p>
      {kept.sources.length > 0 && (
        <>
          <References of={kept.sources} />
          <p class="small">{words.kept}</p>
        </>
      )}
      <div class="row actions"><Again turn={turn} /></div>
      <JudgeForm turn={turn} />
    </div>
  );
}

function References({ of }: { of: Reference[] }) {
  const { place } = w().evidence;
  return (
    <ol class="references">
      {of.map((source) => (
        <li key={source.n}>
          <span class="number">{source.n}</span> {source.title || source.document},{" "}
          <strong>{source.silo}</strong>
          <span class="small">
            {" "}{[source.section, source.dated && dated(source.dated), source.document, place(source.start, source.end)].filter(Boolean).join(", ")}
          </span>
        </li>
      ))}
    </ol>
  );
}
