// The page's frame: who is signed in, where to go, how the gateway is.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { json } from "./api";
import { Chat } from "./chat";
import { FederationPage, RosterPage } from "./federation";
import { Help, helping } from "./keys";
import { spoken } from "./live";
import { JudgementsPage, PeoplePage, SignInsPage } from "./people";
import { Box, Button, Icon, Level } from "./parts";
import { go, place, type View } from "./route";
import { may, session, signOut } from "./session";
import { SettingsPage } from "./settings";
import { JoinPage, Leaving, OpenPage, SignInAgain, SignInPage } from "./sign-in";
import { DocumentsPage, LedgerPage, SiloPage } from "./silo";
import type { Role, Status } from "./types";
import { w } from "./words";

interface Item {
  view: View;
  hash: string;
  name: keyof ReturnType<typeof w>["nav"];
  roles: Role[];
}

const EVERYBODY: Role[] = ["clinician", "silo_admin", "hub_admin", "auditor", "evaluator"];
const GATEWAY: Item[] = [
  { view: "ask", hash: "#/", name: "ask", roles: ["clinician", "evaluator"] },
  { view: "federation", hash: "#/federation", name: "federation", roles: EVERYBODY },
  { view: "roster", hash: "#/roster", name: "roster", roles: EVERYBODY },
  { view: "judgements", hash: "#/judgements", name: "judgements", roles: ["evaluator"] },
  { view: "people", hash: "#/people", name: "people", roles: ["silo_admin"] },
  { view: "sign-ins", hash: "#/sign-ins", name: "signIns", roles: ["auditor", "silo_admin"] },
];
const SILO: Item[] = [
  { view: "silo", hash: "#/silo", name: "silo", roles: ["silo_admin"] },
  { view: "ledger", hash: "#/ledger", name: "ledger", roles: ["silo_admin"] },
  { view: "documents", hash: "#/documents", name: "documents", roles: ["silo_admin"] },
];

function items(): Item[] {
  const now = session.value;
  const all = now?.site === "silo" ? SILO : GATEWAY;
  // Accounts and their log are of gateways that have some.
  const without: View[] = now?.sign_in === "local" ? [] : now?.sign_in === "oidc" ? ["people"] : ["people", "sign-ins"];
  return all.filter((item) => !without.includes(item.view) && may(...item.roles));
}

export function App() {
  const now = session.value;
  const { view } = place.value;
  const known = useRef(false);
  if (now?.person) known.current = true;
  if (!now) return <Waiting />;
  if (view === "open" && now.site === "silo") return <Door><OpenPage /></Door>;
  if (view === "join") return <Door><JoinPage /></Door>;
  if (!now.person && !known.current) return <Door>{now.sign_in === "link" ? <NoLink /> : <SignInPage />}</Door>;
  return (
    <Shell>
      <Main view={view} />
      {!now.person && now.sign_in !== "link" && <SignInAgain />}
      <Leaving />
      <Help />
    </Shell>
  );
}

/** What is before the page: who are you? */
function Door({ children }: { children: ComponentChildren }) {
  return <Shell><Level.Provider value="h2">{children}</Level.Provider></Shell>;
}

function Waiting() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 3000);
    return () => clearTimeout(timer);
  }, []);
  return <p class="door" role="status">{late ? w().status.silent : w().status.checking}</p>;
}

function NoLink() {
  return (
    <div class="door" data-testid="no-link">
      <h1>{w().silo.title}</h1>
      <Box kind="amber" title={w().sign.openFailed}><p>{w().sign.openHint}</p></Box>
    </div>
  );
}

const PAGES: Partial<Record<View, () => ComponentChildren>> = {
  federation: () => <FederationPage />,
  roster: () => <RosterPage />,
  people: () => <PeoplePage />,
  judgements: () => <JudgementsPage />,
  "sign-ins": () => <SignInsPage />,
  ledger: () => <LedgerPage />,
  documents: () => <DocumentsPage />,
};

function Main({ view }: { view: View }) {
  const silo = session.value?.site === "silo";
  const home: View = silo ? "silo" : "ask";
  const wanted = view === "conversation" ? "ask" : PAGES[view] ? view : home;
  const item = items().find((found) => found.view === wanted);
  const first = items()[0];
  useEffect(() => {
    // Who may not ask comes to the first page that is theirs.
    if (view === "ask" && !item && first) go(first.hash, true);
  }, [view, item, first]);
  if (view === "settings") return <SettingsPage />;
  if (!item && (session.value?.person || wanted !== "ask")) return <Wall view={wanted} />;
  if (wanted === "ask") return <Chat />;
  return <>{wanted === "silo" ? <SiloPage /> : PAGES[wanted]?.()}</>;
}

function Wall({ view }: { view: View }) {
  const words = w();
  const item = [...GATEWAY, ...SILO].find((found) => found.view === view);
  const roles = (item?.roles ?? []).map((role) => words.roles[role]).join(", ");
  const none = !session.value?.person?.roles.length;
  return (
    <div class="page" data-testid="wall">
      <h1>{words.sign.wall}</h1>
      <p>{none ? words.sign.noRole : words.sign.wallText(roles)}</p>
      <ul>{items().map((found) => <li key={found.hash}><a href={found.hash}>{words.nav[found.name]}</a></li>)}</ul>
    </div>
  );
}

function Shell({ children }: { children: ComponentChildren }) {
  const words = w();
  const home: View = session.value?.site === "silo" ? "silo" : "ask";
  const here = ["ask", "conversation"].includes(place.value.view) ? home : place.value.view;
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [place.value]);
  // Never a question: titles stay in the browser's history and in lists of windows.
  const name = ["ask", "conversation"].includes(place.value.view) ? "" : titleOf(place.value.view);
  useEffect(() => {
    document.title = name ? `${name} · Siloquy` : "Siloquy";
  }, [name]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        (document.getElementById("question") ?? document.querySelector<HTMLElement>("main"))?.focus();
      }}>{words.skip}</a>
      <header>
        <a class="brand" href="#/"><Logo />Siloquy</a>
        {session.value?.person && (
          <>
            <Button icon="menu" kind="plain" class="narrow-only" label={words.menu} expanded={open} testid="menu" onClick={() => setOpen(!open)} />
            <nav class={`pages ${open ? "open" : ""}`} aria-label={words.nav.label}>
              {items().map((item) => (
                <a key={item.hash} href={item.hash} aria-current={item.view === here ? "page" : undefined}>{words.nav[item.name]}</a>
              ))}
            </nav>
          </>
        )}
        <span class="grow" />
        {session.value?.site === "gateway" && session.value.person && <GatewayStatus />}
        <Who />
      </header>
      <main id="main" tabIndex={-1}>{children}</main>
      <Spoken />
    </>
  );
}

function Spoken() {
  const last = spoken.value.at(-1);
  return (
    <div class="unseen" role="log" aria-live="polite">
      {spoken.value.map((said) => <p key={said.n} data-testid={said === last ? "live" : undefined}>{said.text}</p>)}
    </div>
  );
}

function titleOf(view: View): string {
  const { nav, sign } = w();
  if (view === "settings") return nav.settings;
  if (view === "sign-in") return sign.in;
  const item = [...GATEWAY, ...SILO].find((found) => found.view === view);
  return item ? nav[item.name] : "";
}

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M9 8v16M16 8v16M23 8v16" />
      <path class="bridge" d="M9 12h7M16 20h7" />
    </svg>
  );
}

function Who() {
  const words = w();
  const now = session.value;
  return (
    <div class="who">
      {now?.person && (
        <span class="small who-name" data-testid="who">
          {now.sign_in === "none" ? words.sign.nobody : now.person.shown || now.person.name}
        </span>
      )}
      {now?.person && <Button icon="help" kind="plain" label={words.help.title} testid="help-open" onClick={() => (helping.value = true)} />}
      <a class="button plain settings" href="#/settings" title={words.nav.settings} data-testid="settings-open">
        <Icon name="sliders" /><span>{words.nav.settings}</span>
      </a>
      {now?.person && now.sign_in !== "none" && (
        <Button icon="out" kind="plain" label={words.sign.out} testid="sign-out" onClick={() => void signOut()} />
      )}
    </div>
  );
}

// -- how the gateway is ---------------------------------------------------------------------------

const EVERY_MS = 10_000;

function GatewayStatus() {
  const [status, setStatus] = useState<Status | null | undefined>(undefined);
  useEffect(() => {
    const look = (): void => {
      if (document.hidden) return;
      json<Status>("v1/status?quiet=1", { signal: AbortSignal.timeout(EVERY_MS) }).then(setStatus, () => setStatus(null));
    };
    look();
    const timer = setInterval(look, EVERY_MS);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  const [text, level] = told(status);
  return <p class={`status ${level}`} role="status" title={text} data-testid="status"><span>{text}</span></p>;
}

function told(status: Status | null | undefined): [string, string] {
  const words = w().status;
  if (status === undefined) return [words.checking, "part"];
  if (status === null) return [words.silent, "down"];
  if (!status.hub) return [words.down, "down"];
  const { silos, profiled, refused_profiles: refused } = status;
  const bad = refused.length ? `, ${words.refused(refused.length)}` : "";
  const whole = status.ready && !bad && profiled.length === silos.length;
  return [`${words.up}, ${words.silos(profiled.length, silos.length)}${bad}`, whole ? "up" : "part"];
}
