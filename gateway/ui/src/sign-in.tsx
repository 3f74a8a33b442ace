// Signing in: with a password, at the site's provider, by a one-time link.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, json, shown } from "./api";
import { Box, Button, Dialog, Failure, Field } from "./parts";
import { go, place } from "./route";
import { leaving, session, signIn, signOut, stay } from "./session";
import type { Session } from "./types";
import { w } from "./words";

/**
 * The form or the provider's button; `done` is called when somebody has signed in.
 *
 * `aside`: at the provider in a tab of its own, so that what is on this page stays.
 */
export function SignInForm({ done, aside = false }: { done: () => void; aside?: boolean }) {
  const words = w().sign;
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const now = session.value;
  const told = place.value.query.get("error");
  if (now?.sign_in === "oidc") {
    return (
      <>
        {told && <Box kind="red" title={words.failed}><p>{words.errors[told] ?? words.errors.error}</p></Box>}
        <a class="button primary" href="v1/session/oidc" target={aside ? "_blank" : undefined} data-testid="sign-in-oidc"><span>{words.with(now.provider || words.site)}</span></a>
        {aside && <p class="small">{words.aside}</p>}
      </>
    );
  }
  const submit = async (): Promise<void> => {
    setBusy(true);
    try {
      await signIn(name.trim(), password);
      setError(null);
      done();
    } catch (caught) {
      setError(shown(caught));
    }
    setPassword("");
    setBusy(false);
  };
  return (
    <form data-testid="sign-in" onSubmit={(event) => {
      event.preventDefault();
      void submit();
    }}>
      <Field label={words.name} value={name} onInput={setName} autocomplete="username" required testid="sign-in-name" />
      <Field label={words.password} value={password} onInput={setPassword} type="password" autocomplete="current-password" required testid="sign-in-password" />
      {error && <Failure error={error} />}
      <Button type="submit" kind="primary" disabled={busy} testid="sign-in-go">{words.in}</Button>
    </form>
  );
}

export function SignInPage() {
  const words = w().sign;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <div class="door" data-testid="sign-in-page">
      <h1 tabIndex={-1} ref={heading}>{words.in}</h1>
      <p class="small">{session.value?.organisation}</p>
      <SignInForm done={() => place.value.view === "sign-in" && go("#/")} />
      <p class="notice">{w().notice}</p>
    </div>
  );
}

/** Over the page, when a session ended while it was in use: what was typed stays. */
export function SignInAgain() {
  return (
    <Dialog title={w().sign.in} onClose={() => {}} testid="sign-in-again" urgent stays>
      <p>{w().sign.expired}</p>
      <SignInForm done={() => {}} aside />
    </Dialog>
  );
}

/** Before the automatic end. */
export function Leaving() {
  const words = w().sign;
  const seconds = leaving.value;
  if (seconds === null || !session.value?.person) return null;
  return (
    <Dialog title={words.leaving} onClose={stay} testid="leaving" urgent>
      <p>{words.leavingText(seconds)}</p>
      <div class="row">
        <Button kind="primary" testid="stay" onClick={stay}>{words.stay}</Button>
        <Button onClick={() => void signOut()}>{words.out}</Button>
      </div>
    </Dialog>
  );
}

/** A one-time link of an account: a password is chosen, and the person is in. */
export function JoinPage() {
  const words = w().sign;
  const [shownAs, setShownAs] = useState("");
  const [password, setPassword] = useState("");
  const [repeated, setRepeated] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const submit = async (): Promise<void> => {
    if (password !== repeated) {
      setError(new ApiError("usage", words.differ));
      return;
    }
    try {
      const body = { token: place.peek().id, shown: shownAs.trim(), password };
      session.value = await json<Session>("v1/accounts/join", { method: "POST", body });
      go("#/", true);
    } catch (caught) {
      setError(shown(caught));
    }
  };
  return (
    <div class="door" data-testid="join">
      <h1>{words.joinTitle}</h1>
      <p>{words.joinText}</p>
      <form onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}>
        <Field label={words.shown} value={shownAs} onInput={setShownAs} autocomplete="name" required testid="join-shown" />
        <Field label={words.password} value={password} onInput={setPassword} type="password" autocomplete="new-password" minLength={12} required testid="join-password" />
        <Field label={words.repeat} value={repeated} onInput={setRepeated} type="password" autocomplete="new-password" required testid="join-repeat" />
        {error && <Failure error={error} />}
        <Button type="submit" kind="primary" testid="join-go">{words.join}</Button>
      </form>
    </div>
  );
}

/** The silo console's one-time link. */
export function OpenPage() {
  const words = w().sign;
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    const token = place.peek().id;
    // The token leaves the address at once: it must not stay in the browser's history.
    go("#/", true);
    json<Session>("v1/session/open", { method: "POST", body: { token } }).then(
      (told) => (session.value = told),
      (caught) => setError(shown(caught)),
    );
  }, []);
  return (
    <div class="door">
      <h1>{error ? words.openFailed : words.openTitle}</h1>
      {error && <p>{words.openHint}</p>}
      {error && <Failure error={error} />}
    </div>
  );
}
