// What a reader says of an answer, in the five clinical dimensions.

import { useState } from "preact/hooks";
import { shown, type ApiError } from "./api";
import { Button, Failure } from "./parts";
import { session } from "./session";
import { judge, type Turn } from "./thread";
import type { Judgement } from "./types";
import { w } from "./words";

const DIMENSIONS = ["correct", "supported", "complete", "harmless", "helpful"] as const;
const UNSAID: Judgement = {
  correct: null, supported: null, complete: null, harmless: null, helpful: null, comment: "",
};

export function JudgeForm({ turn }: { turn: Turn }) {
  // Made when it is first opened: a long conversation has hundreds.
  const [made, setMade] = useState(false);
  return (
    <details class="judge" data-testid="judge" onToggle={(event) => event.currentTarget.open && setMade(true)}>
      <summary>{w().judge.open}</summary>
      {made && <Form turn={turn} />}
    </details>
  );
}

function Form({ turn }: { turn: Turn }) {
  const words = w().judge;
  const [said, setSaid] = useState<Judgement>(turn.judgement ?? UNSAID);
  const [done, setDone] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const save = async (): Promise<void> => {
    try {
      await judge(turn, said);
      setDone(true);
      setError(null);
    } catch (caught) {
      setError(shown(caught));
    }
  };
  return (
    <form onSubmit={(event) => {
      event.preventDefault();
      void save();
    }}>
      <p class="small">{words.text} {session.value?.feedback_for_tuning && words.tuning}</p>
      {DIMENSIONS.map((name) => (
        <Dimension key={name} turn={turn.key} name={name} value={said[name]} onChange={(value) => {
          setDone(false);
          setSaid({ ...said, [name]: value });
        }} />
      ))}
      <label class="field">
        {words.comment}
        <textarea
          rows={2} maxLength={2000} value={said.comment}
          onInput={(event) => {
            setDone(false);
            setSaid({ ...said, comment: event.currentTarget.value });
          }}
        />
      </label>
      <div class="row">
        <Button type="submit" kind="primary" testid="judge-save">{w().save}</Button>
        <span class="small" role="status">{done && words.thanks}</span>
      </div>
      {error && <Failure error={error} />}
    </form>
  );
}

interface DimensionProps {
  turn: number;
  name: (typeof DIMENSIONS)[number];
  value: boolean | null;
  onChange: (value: boolean | null) => void;
}

function Dimension({ turn, name, value, onChange }: DimensionProps) {
  const words = w();
  const among = [[true, words.yes], [false, words.no], [null, words.judge.unsaid]] as const;
  return (
    <fieldset class="dimension">
      <legend>{words.judge.dimensions[name]}</legend>
      {among.map(([key, label]) => (
        <label key={String(key)}>
          <input
            type="radio" name={`${name}-${turn}`} value={String(key)} checked={value === key}
            onChange={() => onChange(key)}
          />
          {label}
        </label>
      ))}
    </fieldset>
  );
}
