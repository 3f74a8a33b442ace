// What a person chooses: colours, language, keys, how long conversations are kept, the password.

import { useEffect, useState } from "preact/hooks";
import { json, shown, type ApiError } from "./api";
import { Page } from "./load";
import { Button, Choice, Failure, Field } from "./parts";
import { may, session } from "./session";
import { shortcuts, theme } from "./store";
import { KeyList } from "./keys";
import { LANGUAGES, language, w } from "./words";

export function SettingsPage() {
  const words = w().settings;
  return (
    <Page title={words.title} testid="settings">
      <Choice legend={words.theme} name="theme" value={theme.value} onChange={(value) => (theme.value = value)}
        among={(["system", "light", "dark"] as const).map((item) => [item, words.themes[item]] as const)} />
      <Choice legend={words.language} name="language" value={language.value} onChange={(value) => (language.value = value)}
        among={LANGUAGES.map((item) => [item, words.languages[item]] as const)} />
      {session.value?.site === "gateway" && may("clinician", "evaluator") && <Keep />}
      {session.value?.sign_in === "local" && <Password />}
      <section>
        <h2>{words.keys}</h2>
        <label class="check">
          <input type="checkbox" checked={shortcuts.value} onChange={() => (shortcuts.value = !shortcuts.value)} />
          {words.shortcuts}
        </label>
        <KeyList />
      </section>
    </Page>
  );
}

function Keep() {
  const words = w().settings;
  // Unknown until it was read: a reply that comes late must not undo what was typed.
  const [days, setDays] = useState<string | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [done, setDone] = useState(false);
  const site = session.value?.keep_days ?? 0;
  useEffect(() => {
    json<{ keep_days: number }>("v1/preferences").then(
      (told) => setDays(String(told.keep_days)),
      (caught) => setError(shown(caught)),
    );
  }, []);
  const save = async (): Promise<void> => {
    try {
      await json("v1/preferences", { method: "PUT", body: { keep_days: Number(days) } });
      setError(null);
      setDone(true);
    } catch (caught) {
      setError(shown(caught));
    }
  };
  if (days === null) return error && <Failure error={error} />;
  return (
    <form class="panel" data-testid="keep" onSubmit={(event) => {
      event.preventDefault();
      void save();
    }}>
      <Field label={words.keep} type="number" min={0} max={site || 36_500} value={days} onInput={(value) => {
        setDone(false);
        setDays(value);
      }} hint={site ? words.keepSite(site) : words.keepForever} testid="keep-days" />
      {error && <Failure error={error} />}
      <div class="row">
        <Button type="submit" testid="keep-save">{w().save}</Button>
        <span role="status" class="small">{done && w().saved}</span>
      </div>
    </form>
  );
}

function Password() {
  const words = w().settings;
  const [old, setOld] = useState("");
  const [chosen, setChosen] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [done, setDone] = useState(false);
  const save = async (): Promise<void> => {
    try {
      await json("v1/session/password", { method: "PUT", body: { old, new: chosen } });
      setError(null);
      setDone(true);
      setOld("");
      setChosen("");
    } catch (caught) {
      setError(shown(caught));
    }
  };
  return (
    <form class="panel" data-testid="password" onSubmit={(event) => {
      event.preventDefault();
      void save();
    }}>
      <h2>{words.password}</h2>
      <Field label={words.oldPassword} type="password" autocomplete="current-password" value={old} onInput={setOld} required />
      <Field label={words.newPassword} type="password" autocomplete="new-password" minLength={12} value={chosen} onInput={setChosen} required />
      {error && <Failure error={error} />}
      <div class="row">
        <Button type="submit">{words.changePassword}</Button>
        <span role="status" class="small">{done && words.changed}</span>
      </div>
    </form>
  );
}
