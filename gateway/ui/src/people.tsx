// Accounts of the gateway, what evaluators read, and the log of sign-ins.

import { useState } from "preact/hooks";
import { json, shown, type ApiError } from "./api";
import { Page, useLoaded } from "./load";
import { Box, Button, Dialog, Failure, Field, Table } from "./parts";
import { session } from "./session";
import { download } from "./text";
import type { Judgement, Role } from "./types";
import { w, when } from "./words";

const ROLES: Role[] = ["clinician", "silo_admin", "hub_admin", "auditor", "evaluator"];

interface Account {
  name: string;
  shown: string;
  roles: Role[];
  last_seen: number | null;
  disabled: boolean;
  waiting: boolean;
}

interface Invited {
  name: string;
  token: string;
}

export function PeoplePage() {
  const loaded = useLoaded<{ accounts: Account[] }>("v1/accounts");
  const [error, setError] = useState<ApiError | null>(null);
  const [invited, setInvited] = useState<Invited | null>(null);
  const [removing, setRemoving] = useState("");
  const words = w().people;
  // Who locks themselves out may be the last who could let somebody in.
  const me = session.value?.person?.name;
  const act = async <T,>(work: Promise<T>): Promise<T | null> => {
    try {
      const done = await work;
      setError(null);
      loaded.again();
      return done;
    } catch (caught) {
      setError(shown(caught));
      return null;
    }
  };
  const change = (name: string, method: "PATCH" | "DELETE", body?: unknown): void =>
    void act(json(`v1/accounts/${encodeURIComponent(name)}`, { method, body }));
  const invite = async (name: string, roles: Role[]): Promise<boolean> => {
    const made = await act(json<Invited>("v1/accounts", { method: "POST", body: { name, roles } }));
    if (made) setInvited(made);
    return made !== null;
  };
  return (
    <Page title={words.title} text={words.text} loaded={loaded} testid="people">
      {error && <Failure error={error} />}
      {invited && <Link key={invited.token} invited={invited} />}
      <Table caption={words.title} hidden head={[words.name, words.shown, words.roles, words.seen, words.state, words.actions]}
        rows={(loaded.value?.accounts ?? []).map((item) => [
          item.name,
          item.shown,
          item.roles.map((role) => w().roles[role]).join(", "),
          item.last_seen ? when(item.last_seen) : words.never,
          item.disabled ? words.disabled : item.waiting ? words.waiting : words.active,
          <div class="row" key="b">
            <Button disabled={item.name === me} label={words.of(item.disabled ? words.enable : words.disable, item.name)} onClick={() => change(item.name, "PATCH", { disabled: !item.disabled })}>
              {item.disabled ? words.enable : words.disable}
            </Button>
            <Button label={words.of(words.renew, item.name)} onClick={() => void invite(item.name, item.roles)}>{words.renew}</Button>
            <Button disabled={item.name === me} label={words.of(words.remove, item.name)} kind="danger" onClick={() => setRemoving(item.name)}>{words.remove}</Button>
          </div>,
        ])} />
      <Invite onInvite={invite} />
      {removing && (
        <Dialog title={words.removeSure(removing)} onClose={() => setRemoving("")} testid="remove-account" urgent>
          <p>{words.removeText}</p>
          <div class="row">
            <Button kind="danger" testid="remove-account-sure" onClick={() => {
              change(removing, "DELETE");
              setRemoving("");
            }}>{words.remove}</Button>
            <Button onClick={() => setRemoving("")}>{w().cancel}</Button>
          </div>
        </Dialog>
      )}
    </Page>
  );
}

function Link({ invited }: { invited: Invited }) {
  const link = `${location.origin}${location.pathname}#/join/${invited.token}`;
  const [told, setTold] = useState("");
  const copy = (): Promise<void> => navigator.clipboard.writeText(link).then(
    () => setTold(w().copied), () => setTold(w().notCopied),
  );
  return (
    <Box kind="green" title={w().people.link(invited.name)} testid="invitation" alert>
      <p><code data-testid="invitation-link">{link}</code></p>
      <div class="row">
        <Button onClick={() => void copy()}>{w().people.copyLink}</Button>
        <span class="small">{told}</span>
      </div>
    </Box>
  );
}

function Invite({ onInvite }: { onInvite: (name: string, roles: Role[]) => Promise<boolean> }) {
  const words = w().people;
  const [name, setName] = useState("");
  const [roles, setRoles] = useState<Role[]>(["clinician"]);
  const submit = async (): Promise<void> => {
    if (await onInvite(name.trim(), roles)) setName("");
  };
  return (
    <form class="panel" data-testid="invite" onSubmit={(event) => {
      event.preventDefault();
      void submit();
    }}>
      <h2>{words.add}</h2>
      <Field label={words.name} value={name} onInput={setName} required testid="invite-name" />
      <fieldset class="checks">
        <legend>{words.roles}</legend>
        {ROLES.map((role) => (
          <label key={role}>
            <input type="checkbox" checked={roles.includes(role)} onChange={() =>
              setRoles(roles.includes(role) ? roles.filter((item) => item !== role) : [...roles, role])} />
            {w().roles[role]}
          </label>
        ))}
      </fieldset>
      <Button type="submit" kind="primary" disabled={!roles.length} testid="invite-make">{words.invite}</Button>
    </form>
  );
}

// -- judgements -----------------------------------------------------------------------------------

interface Judged {
  query_id: string;
  given: number;
  question: string;
  answer: string;
  judgement: Judgement;
}

const DIMENSIONS = ["correct", "supported", "complete", "harmless", "helpful"] as const;

export function JudgementsPage() {
  const loaded = useLoaded<{ feedback: Judged[] }>("v1/feedback");
  const words = w().judgements;
  const all = loaded.value?.feedback ?? [];
  const share = (name: (typeof DIMENSIONS)[number]): string =>
    `${all.filter((item) => item.judgement[name] === true).length} / ${all.filter((item) => item.judgement[name] === false).length}`;
  return (
    <Page title={words.title} text={words.text} loaded={loaded} testid="judgements">
      {all.length === 0 ? <p>{words.empty}</p> : (
        <>
          <Table caption={words.share} head={[words.dimension, words.share]}
            rows={DIMENSIONS.map((name) => [w().judge.dimensions[name], share(name)])} />
          <Button onClick={() => download("feedback.json", JSON.stringify(loaded.value, null, 1), "application/json")}>{words.download}</Button>
          {all.map((item) => (
            <details class="card" key={item.query_id + item.given}>
              <summary><h3>{item.question}</h3></summary>
              <p class="small">{words.given}: {when(item.given)}</p>
              <p>{item.answer}</p>
              <ul>
                {DIMENSIONS.filter((name) => item.judgement[name] !== null).map((name) => (
                  <li key={name}>{w().judge.dimensions[name]}: {item.judgement[name] ? w().yes : w().no}</li>
                ))}
              </ul>
              {item.judgement.comment && <blockquote>{item.judgement.comment}</blockquote>}
            </details>
          ))}
        </>
      )}
    </Page>
  );
}

// -- sign-ins -------------------------------------------------------------------------------------

interface SignIn {
  n: number;
  at: number;
  who: string;
  kind: string;
  ok: boolean;
  reason: string;
}

export function SignInsPage() {
  const loaded = useLoaded<{ sign_ins: SignIn[] }>("v1/sign-ins");
  const words = w().signIns;
  const all = loaded.value?.sign_ins ?? [];
  return (
    <Page title={words.title} text={words.text} loaded={loaded} testid="sign-ins">
      {all.length === 0 ? <p>{words.empty}</p> : (
        <Table caption={words.title} hidden head={[words.at, words.who, words.how, words.result]}
          rows={all.map((item) => [when(item.at), item.who, item.kind, item.ok ? words.ok : `${words.refused}: ${item.reason}`])} />
      )}
    </Page>
  );
}
