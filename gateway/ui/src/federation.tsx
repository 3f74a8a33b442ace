// Who belongs to the federation and how it goes with each: what the gateway knows of its silos.

import { Box, Facts, Table } from "./parts";
import { Page, useLoaded } from "./load";
import { dated, day, number, percent, w, when } from "./words";

interface Silo {
  node: string;
  organisation: string;
  fingerprint: string;
  profile: null | {
    version: number; created: number; expires: number; size: number; epsilon: number | null; sealing: string;
  };
  refused: string;
  trust: null | { verified: number; strikes: number; struck: number | null; asked: boolean; probe: number | null };
  quota: number | null;
  missing_lately: { asked: number; missing: number; last: null | { at: number; reason: string; detail: string } };
}

interface Promised {
  questions: number;
  audits: number;
  needed: number;
  broken: boolean;
  precise: number | null;
  diverse: number | null;
  fast: number | null;
}

interface Federation {
  federation: string;
  fingerprint: string;
  roster_version: number;
  gateway: { node: string; organisation: string };
  hub: { node: string; organisation: string; connected: boolean };
  silos: Silo[];
  promise: null | Promised;
  warnings: string[];
}

const EVERY_MS = 10_000;

export function FederationPage() {
  const loaded = useLoaded<Federation>("v1/federation", EVERY_MS);
  const words = w().federation;
  const told = loaded.value;
  return (
    <Page title={words.title} loaded={loaded} testid="federation">
      {told && (
        <>
          {told.warnings.length > 0 && (
            <Box kind="amber" title={words.warnings}>{told.warnings.map((text) => <p key={text}>{text}</p>)}</Box>
          )}
          <Facts of={[
            [words.title, told.federation],
            [words.fingerprint, <code key="f">{told.fingerprint}</code>],
            [words.roster, number(told.roster_version)],
            [words.hub, `${told.hub.node}, ${told.hub.organisation}: ${told.hub.connected ? words.connected : words.disconnected}`],
            [words.gateway, `${told.gateway.node}, ${told.gateway.organisation}`],
          ]} />
          <Table caption={words.silos} testid="silos-table"
            head={[words.silo, words.organisation, words.profile, words.size, words.noise, words.sealing, words.trust, words.lately]}
            rows={told.silos.map(row)} />
          {told.promise && <Promise promise={told.promise} />}
        </>
      )}
    </Page>
  );
}

function row(silo: Silo) {
  const words = w().federation;
  const { profile } = silo;
  const shows = profile
    ? `${words.expires} ${day(profile.expires)}`
    : silo.refused ? `${words.refused}: ${silo.refused}` : words.noProfile;
  return [
    <>{silo.node}<br /><code class="small">{silo.fingerprint}</code></>,
    silo.organisation,
    shows,
    profile ? number(Math.round(profile.size)) : "",
    profile ? (profile.epsilon === null ? words.exact : words.epsilon(profile.epsilon)) : "",
    profile ? words.sealings[profile.sealing] ?? profile.sealing : "",
    <Trust key="t" silo={silo} />,
    lately(silo),
  ];
}

function Trust({ silo: { trust, quota } }: { silo: Silo }) {
  const words = w().federation;
  if (!trust) return <>{words.unchecked}</>;
  return (
    <>
      {words.verified(trust.verified)}
      {trust.strikes > 0 && <div class="fault">{words.strikes(trust.strikes, trust.struck ? when(trust.struck) : "")}</div>}
      {trust.probe !== null && <div>{words.probe(percent(trust.probe))}</div>}
      {quota !== null && <div>{words.quota(quota)}</div>}
      {!trust.asked && <div class="fault">{words.notAsked}</div>}
    </>
  );
}

function lately({ missing_lately: { asked, missing, last } }: Silo): string {
  const words = w().federation;
  if (!missing) return words.present(asked);
  const why = last ? `: ${last.detail || w().missing.reasons[last.reason] || last.reason}, ${when(last.at)}` : "";
  return words.absent(missing, asked) + why;
}

function Promise({ promise }: { promise: Promised }) {
  const words = w().federation;
  const share = (value: number | null): string => (value === null ? words.promisesNothing : percent(value));
  return (
    <section>
      <h2>{words.promise}</h2>
      {promise.broken && <Box kind="red" title={words.broken}><p>{words.brokenText}</p></Box>}
      <p class="small">{words.audits(promise.audits, promise.needed, promise.questions)}</p>
      <Facts of={(["precise", "diverse", "fast"] as const).map((name) => [w().intents[name], share(promise[name])])} />
    </section>
  );
}

// -- roster ---------------------------------------------------------------------------------------

interface Roster {
  federation: string;
  fingerprint: string;
  version: number;
  created: number;
  threshold: number;
  founders: string[];
  encoder: { name: string; sha256: string; dimension: number };
  members: { node: string; role: string; organisation: string; fingerprint: string }[];
}

export function RosterPage() {
  const loaded = useLoaded<Roster>("v1/roster");
  const words = w().roster;
  const told = loaded.value;
  return (
    <Page title={words.title} text={words.text} loaded={loaded} testid="roster">
      {told && (
        <>
          <Facts of={[
            [w().federation.title, told.federation],
            [w().federation.fingerprint, <code key="f">{told.fingerprint}</code>],
            [words.version, `${number(told.version)}, ${words.created.toLowerCase()} ${dated(new Date(told.created).toISOString().slice(0, 10))}`],
            [words.threshold, words.of(told.threshold, told.founders.length)],
            [words.encoder, `${told.encoder.name}, ${told.encoder.dimension}, ${told.encoder.sha256.slice(0, 16)}…`],
          ]} />
          <Table caption={words.members} head={[words.node, words.role, w().federation.organisation, w().federation.fingerprint]}
            rows={told.members.map((item) => [item.node, item.role, item.organisation, <code key="f">{item.fingerprint}</code>])} />
          <section>
            <h2>{words.founders}</h2>
            <ul>{told.founders.map((item) => <li key={item}><code>{item}</code></li>)}</ul>
          </section>
        </>
      )}
    </Page>
  );
}
