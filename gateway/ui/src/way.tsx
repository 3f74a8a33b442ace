// A question under way: its stages, what each silo does, sentences as they are checked.

import { useEffect, useState } from "preact/hooks";
import { say } from "./live";
import { Icon } from "./parts";
import type { Progress } from "./thread";
import type { SiloNews } from "./types";
import { w } from "./words";

export function Way({ progress }: { progress: Progress }) {
  const { stages, lost } = w();
  const silos = [...progress.silos.values()];
  const passages = silos.reduce((sum, item) => sum + item.passages, 0);
  const at = stageOf(progress, silos, passages);
  const names = [
    stages.routing,
    stages.asking(silos.length),
    stages.reading(passages),
    stages.checking(progress.sentences.length),
  ];
  const extra = progress.rounds.slice(1);
  return (
    <section class="box way" data-testid="way" aria-label={stages.label}>
      <div class="way-head">
        <ol class="stages">
          {names.map((name, stage) => (
            <li
              key={stage} class={stage < at ? "done" : stage === at ? "now" : ""}
              aria-current={stage === at ? "step" : undefined} data-testid={`stage-${stage}`}
            >
              <span class="dot">{stage < at && <Icon name="check" />}</span>
              {name}
              <span class="unseen">{stage < at ? `, ${stages.done}` : ""}</span>
            </li>
          ))}
        </ol>
        <Clock began={progress.began} />
      </div>
      {silos.length > 0 && (
        <ul class="chips" data-testid="silos">
          {silos.map((item) => <Chip key={item.silo} news={item} />)}
        </ul>
      )}
      {extra.map((round, n) => (
        <p class="small" key={n}>
          {round.kind === "part" ? stages.part(round.question) : stages.wider}
        </p>
      ))}
      {progress.lost && <p class="fault" data-testid="lost">{lost}</p>}
      {progress.sentences.length > 0 && (
        <ol class="sentences draft" data-testid="draft">
          {progress.sentences.map((sentence, n) => (
            <li key={n}>
              {sentence.text} <span class="small">{sentence.citations.map((n) => `[${n}]`).join("")}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

/** Which of the four stages a question is at. */
function stageOf(progress: Progress, silos: SiloNews[], passages: number): number {
  if (progress.sentences.length || progress.sources.length) return 3;
  if (passages) return 2;
  return silos.length ? 1 : 0;
}

function Chip({ news }: { news: SiloNews }) {
  const { siloStates } = w();
  const text = news.state === "released" ? siloStates.released(news.passages) : siloStates[news.state];
  return (
    <li class={`chip ${news.state}`} data-silo={news.silo}>
      <strong>{news.silo}</strong> {text}
    </li>
  );
}

function Clock({ began }: { began: number }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => {
      const now = Math.floor((performance.now() - began) / 1000);
      setSeconds(now);
    }, 250);
    return () => clearInterval(timer);
  }, [began]);
  useEffect(() => {
    // Spoken at 5 s and then every 10 s: a voice each second would be noise.
    if (seconds === 5 || (seconds > 0 && seconds % 10 === 0)) say(w().still(seconds));
  }, [seconds]);
  return <p class="clock" aria-hidden="true">{w().elapsed(seconds)}</p>;
}
