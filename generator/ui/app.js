// The gateway's page. Whatever comes from outside is inserted as text, never as markup.

const STATUS_EVERY_MS = 10_000;
const RETRY_MS = 1000;
const MOST_RETRIES = 20;
const STAMP = { dateStyle: "medium", timeStyle: "medium" };
const REASONS = {
  timeout: "it did not answer in time",
  refused: "its policy refused",
  unreachable: "there is no line to it",
  failed: "it could not do its part",
  incompatible: "its version or encoder differs",
  integrity: "a signature or hash did not hold",
};
const CONFLICTS = {
  disagreement: "Hospitals differ",
  dose: "Doses differ",
  stale: "Possibly out of date",
  population: "Other patients",
};
const TITLES = {
  usage: "The question cannot be asked like this",
  denied: "The question was refused",
  budget: "The disclosure budget is spent",
  busy: "Too many questions at once",
  incompatible: "The nodes do not fit together",
  integrity: "A signature or hash did not hold",
  unreachable: "The silos cannot be reached",
  settings: "The gateway is not set up correctly",
  gateway: "The gateway does not answer",
  reply: "The gateway's reply cannot be read",
};
const MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\\.?";
const DAY = "(?:0?[1-9]|[12]\\d|3[01])";
const YEAR = "(?:19|20)\\d\\d";
const IDENTIFIERS = [
  ["e-mail address", /[\w.+-]+@[\w-]+\.[\w.-]+/g],
  ["date, perhaps of birth", new RegExp(`\\b${DAY}[./-]${DAY}[./-]${YEAR}\\b`, "g")],
  ["date, perhaps of birth", new RegExp(`\\b${DAY}[./-]${DAY}[./-]\\d\\d\\b(?! ?m?c?g| ?ml)`, "gi")],
  ["date, perhaps of birth", new RegExp(`\\b${YEAR}[./-]\\d{1,2}[./-]\\d{1,2}\\b`, "g")],
  ["date, perhaps of birth", new RegExp(`\\b\\d{1,2}(?:st|nd|rd|th)? ${MONTH},? ${YEAR}\\b`, "gi")],
  ["date, perhaps of birth", new RegExp(`\\b${MONTH} \\d{1,2}(?:st|nd|rd|th)?,? ${YEAR}\\b`, "gi")],
  ["date of birth", /\b(?:dob|d\.o\.b\.|born|date of birth)\W{0,3}(?:on |in )?\d[\d./-]*/gi],
  ["phone or record number", /(?:\+|\b)\d(?:[ ()./-]{0,2}\d){8,}\b/g],
  ["long number", /\b(?:[A-Z]{1,4}-?)?(?:\d{7,}|(?!(?:19|20)\d\d-)\d{4}-\d{4,})\b/g],
  ["record number", /\b(?:mrn|nhs|ssn|patient|record|hospital) ?(?:no|nr|number|id)?[.:#]* ?\d{4,}/gi],
  ["name", /\b(?:Mr|Mrs|Ms|Miss)\.? [A-Z][\w'-]+(?: [A-Z][\w'-]+)?/g],
];

const $ = (id) => document.getElementById(id);
const state = { waiting: null, asked: null, agreed: "" };

function h(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "click") node.addEventListener("click", value);
    else if (name === "class") node.className = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== ""));
  return node;
}

const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// -- asking ---------------------------------------------------------------------------------------

function submit() {
  const question = $("question").value.trim();
  if (state.waiting) return;
  if (!question) {
    say("The question is empty.");
    $("question").focus();
    return;
  }
  const found = question === state.agreed ? [] : identifiers(question);
  if (found.length) warn(question, found);
  else ask(question, document.querySelector("input[name=route]:checked").value);
}

async function ask(question, route) {
  const run = { control: new AbortController(), stream: "", last: "0", silos: new Map() };
  const typed = $("question").value;
  state.asked = { question, route };
  $("warning").hidden = true;
  $("result").replaceChildren();
  const clock = startWaiting(run);
  const reply = await follow({ question, route }, run);
  stopWaiting(clock);
  const shown = showReply(reply);
  // Who is already writing the next question keeps the cursor.
  const writing = document.activeElement === $("question") && $("question").value !== typed;
  if (!writing) shown.focus();
}

// The stream's end: its last event's text, and whether it is the answer. A line that breaks is
// taken up again where it broke.
async function follow(body, run) {
  for (let tries = 0; tries < MOST_RETRIES; tries += 1) {
    try {
      const response = await (run.stream ? resume(run) : begin(body, run));
      // A gateway that was started anew knows the stream no more.
      if (!response.ok && run.stream) return {};
      if (!response.ok) return { text: await response.text(), status: response.status };
      run.stream = response.headers.get("X-Stream-Id");
      const end = await readEvents(response.body, run);
      if (end) return { ...end, status: response.status };
    } catch {
      if (run.control.signal.aborted) return { stopped: true };
    }
    if (!run.stream) return {};
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    if (run.control.signal.aborted) return { stopped: true };
  }
  return {};
}

function begin(body, { control }) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
  const options = { method: "POST", headers, body: JSON.stringify(body), signal: control.signal };
  return fetch("v1/ask", options);
}

function resume({ control, stream, last }) {
  return fetch(`v1/ask/${stream}`, { headers: { "Last-Event-ID": last }, signal: control.signal });
}

async function readEvents(body, run) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return null;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const { event, data, id } = fields(block);
      const answered = event === "final";
      if (answered || event === "error") return { text: data, answered };
      if (event) showProgress(event, JSON.parse(data), run);
      run.last = id ?? run.last;
    }
  }
}

function fields(block) {
  const pairs = block.split("\n").map((line) => [line.split(": ", 1)[0], line]);
  return Object.fromEntries(pairs.map(([name, line]) => [name, line.slice(name.length + 2)]));
}

function showProgress(event, data, { silos }) {
  if (event === "sentence") {
    const marks = data.citations.map((n) => `[${n}]`).join("");
    $("draft").append(h("li", {}, `${data.text} ${marks}`));
  }
  if (event === "plan") data.plan.asked.forEach((silo) => silos.set(silo, { state: "asked" }));
  if (event === "silo") silos.set(data.silo, data);
  const states = [...silos.values()];
  const heard = states.filter(({ state }) => state === "answered" || state === "released").length;
  const passages = states.reduce((sum, { passages: n }) => sum + (n ?? 0), 0);
  const gone = states.filter(({ state }) => state === "missing").length;
  const missing = gone ? `, ${gone} missing` : "";
  const left = passages ? `, ${count(passages, "passage")} released` : "";
  $("heard").textContent = `${heard} of ${count(states.length, "silo")} answered${missing}${left}.`;
  setStage(event === "source" || event === "sentence" ? 3 : left ? 2 : 1);
}

function setStage(stage) {
  [...$("stages").children].forEach((item, at) => {
    if (at === stage) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
}

function stop() {
  const run = state.waiting;
  if (!run) return;
  run.control.abort();
  // The gateway then tells the silos; nobody waits for its reply.
  if (run.stream) fetch(`v1/ask/${run.stream}`, { method: "DELETE" }).catch(() => {});
}

function showReply({ text, answered, status, stopped }) {
  if (stopped) return showStopped();
  if (text === undefined) return showError({ code: "gateway" });
  try {
    const data = JSON.parse(text);
    return answered ? showAnswer(data, text) : showError(data.error);
  } catch {
    return showError({ code: "reply", message: `Its HTTP status is ${status}.` });
  }
}

function startWaiting(run) {
  const began = performance.now();
  state.waiting = run;
  $("draft").replaceChildren();
  $("heard").textContent = "";
  setStage(0);
  $("waiting").hidden = $("stop").hidden = false;
  if ([$("ask"), document.body].includes(document.activeElement)) $("stop").focus();
  $("ask").hidden = true;
  say("Asking the silos.");
  let told = 0;
  const tick = () => {
    const seconds = Math.floor((performance.now() - began) / 1000);
    $("elapsed").textContent = `${seconds} s`;
    // Spoken at 5 s and then every 10 s: a voice each second would be noise.
    if (seconds !== told && (seconds === 5 || (seconds && seconds % 10 === 0))) {
      say(`Still asking, ${seconds} seconds.`);
    }
    told = seconds;
  };
  tick();
  return setInterval(tick, 250);
}

function stopWaiting(clock) {
  clearInterval(clock);
  state.waiting = null;
  $("ask").hidden = false;
  if (document.activeElement === $("stop")) $("ask").focus();
  $("waiting").hidden = $("stop").hidden = true;
}

function say(text) {
  $("live").textContent = text;
}

// -- identifiers ----------------------------------------------------------------------------------

function identifiers(question) {
  const all = IDENTIFIERS.flatMap(([kind, pattern]) =>
    [...question.matchAll(pattern)].map(([text]) => [text, kind]),
  );
  all.sort(([one], [other]) => other.length - one.length);
  // The longest find stands for what lies within it.
  return all.filter(([text], at) => !all.slice(0, at).some(([longer]) => longer.includes(text)));
}

function warn(question, found) {
  $("findings").replaceChildren(
    ...found.map(([text, kind]) => h("li", {}, h("strong", {}, text), ` (${kind})`)),
  );
  $("redact").onclick = () => {
    const cleared = found.reduce((text, [item]) => text.replaceAll(item, "[removed]"), question);
    $("question").value = cleared;
    $("warning").hidden = true;
    $("question").focus();
  };
  $("anyway").onclick = () => {
    state.agreed = question;
    $("question").focus();
    ask(question, document.querySelector("input[name=route]:checked").value);
  };
  $("warning").hidden = false;
  $("warning").focus();
}

// -- what came of it ------------------------------------------------------------------------------

function show(title, announcement, ...parts) {
  const heading = h("h2", { tabindex: "-1" }, title);
  const asked = h("p", { class: "asked" }, state.asked.question);
  $("result").replaceChildren(h("section", { class: "answer" }, heading, asked, ...parts));
  say(announcement);
  return heading;
}

function showStopped() {
  return show(
    "Stopped",
    "Stopped.",
    h("p", {}, "The question was cancelled, at the silos too. What one had released, it released."),
    h("div", { class: "row" }, again("Ask again")),
  );
}

function showError({ code, message, hint }) {
  const title = TITLES[code] ?? "Something went wrong";
  if (code === "gateway") {
    message ??= "There was no reply from it.";
    hint ??= "Check that it runs and that this machine reaches it.";
  }
  const retry = code === "usage" ? null : h("div", { class: "row" }, again("Try again"));
  const detail = hint ? h("p", {}, "What to do: ", hint) : null;
  const label = h("p", { class: "small" }, `Error code: ${code}`);
  const box = h("div", { class: "box red" }, h("p", {}, message ?? ""), detail, label, retry);
  return show(title, `Error: ${title}.`, box);
}

function again(label, route = state.asked.route) {
  const { question } = state.asked;
  return h("button", { type: "button", class: "primary", click: () => ask(question, route) }, label);
}

function showAnswer(answer, raw) {
  const cited = new Set(answer.sentences.flatMap((sentence) => sentence.citations));
  const partial = answer.missing.length ? " (silos missing)" : "";
  const heading = show(
    (answer.abstained ? "Not found" : "Answer") + partial,
    announcement(answer, cited.size),
    missingBox(answer),
    answer.abstained ? abstention(answer) : sentenceList(answer),
    conflictsBox(answer),
    notesBox(answer),
    flaggedBox(answer.flagged),
    actions(answer, raw),
  );
  if (!answer.abstained) $("result").append(sourcesPane(answer.sources, cited, answer.sentences));
  const accounts = [whatLeft(answer), whySilos(answer.plan), smallPrint(answer)];
  $("result").append(h("div", { class: "accounts" }, accounts));
  return heading;
}

function announcement(answer, cited) {
  const missing = answer.missing.length ? `${count(answer.missing.length, "silo")} missing. ` : "";
  if (answer.abstained) return `${missing}Not found.`;
  const sentences = count(answer.sentences.length, "sentence");
  return `${missing}Answer: ${sentences} from ${count(cited, "source")}.`;
}

function missingBox({ missing, plan }) {
  if (!missing.length) return null;
  const items = missing.map(({ silo, reason, detail }) =>
    h("li", {}, h("strong", {}, `${silo}: ${reason}`), `, ${detail || REASONS[reason] || ""}`),
  );
  const title = `${missing.length} of ${count(plan.asked.length, "asked silo")} missing`;
  const text = "What these silos hold is not in this answer:";
  return h("div", { class: "box red" }, h("h3", {}, title), h("p", {}, text), h("ul", {}, items));
}

function conflictsBox({ conflicts, sources }) {
  if (!conflicts.length) return null;
  const byNumber = new Map(sources.map((source) => [source.n, source]));
  const items = conflicts.map(({ kind, detail, sides }) => {
    const quotes = sides.map(({ n, start, end }) => {
      const { silo, text } = byNumber.get(n);
      const said = [...text].slice(start, end).join("");
      return h("blockquote", {}, h("span", { class: "number" }, String(n)), ` ${silo}: ${said}`);
    });
    return h("li", {}, h("strong", {}, CONFLICTS[kind]), `: ${detail}`, quotes);
  });
  const title = h("h3", {}, "Weigh these before acting");
  return h("div", { class: "box amber" }, title, h("ul", { class: "conflicts" }, items));
}

function notesBox({ notes, rounds }) {
  const parts = rounds.filter(({ kind }) => kind === "part").map(({ question }) => question);
  const told = parts.length ? [`Asked in parts: ${parts.join(" ")}`, ...notes] : notes;
  if (!told.length) return null;
  const items = told.map((note) => h("li", {}, note));
  return h("div", { class: "box" }, h("h3", {}, "How it was made"), h("ul", {}, items));
}

function flaggedBox(flagged) {
  const items = Object.entries(flagged).map(([silo, reason]) =>
    h("li", {}, h("strong", {}, silo), `: ${reason}`),
  );
  if (!items.length) return null;
  return h("div", { class: "box amber" }, h("h3", {}, "Flagged silos"), h("ul", {}, items));
}

function abstention(answer) {
  const skipped = answer.plan.skipped.length;
  const box = h("div", { class: "box" }, h("p", {}, answer.answer));
  if (state.asked.route === "auto" && skipped) {
    const text = `The router left out ${count(skipped, "silo")}.`;
    box.append(h("p", {}, text), h("div", { class: "row" }, again("Ask all silos", "all")));
  } else {
    box.append(h("p", {}, "No silo was left out, so only another wording can help."));
  }
  return box;
}

function sentenceList({ sentences, sources, extractive, model }) {
  const byNumber = new Map(sources.map((source) => [source.n, source]));
  const items = sentences.map((sentence) => {
    const buttons = sentence.citations.map((n) => {
      const source = byNumber.get(n);
      const name = source ? `${source.title || source.document}, ${source.silo}` : "not shown";
      const open = (event) => openSource(n, sentence, sources, sentences, event.currentTarget);
      const number = h("span", { class: "number" }, String(n));
      return h("button", { type: "button", class: "cite", click: open }, number, " ", name);
    });
    const percent = Math.round(100 * sentence.support);
    const note = `Written by ${model}, checked: ${percent} % of it stands in the source.`;
    const doubt = extractive ? null : h("p", { class: "small doubt" }, note);
    return h("li", {}, h("p", {}, sentence.text), buttons, doubt);
  });
  return h("ol", { class: "sentences" }, items);
}

function actions(answer, raw) {
  const done = h("span", { class: "small", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(asText(answer, state.asked.question));
      done.textContent = "Copied.";
    } catch {
      done.textContent = "The browser refused to copy.";
    }
  };
  const save = () => {
    // The bytes as they came: numbers written anew might no longer fit the signature.
    const url = URL.createObjectURL(new Blob([raw], { type: "application/json" }));
    const name = `siloquy-${String(answer.receipt.body?.query_id ?? "receipt").slice(0, 12)}.json`;
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    done.textContent = `Saved. Check it with: siloquy verify ${name}`;
  };
  return h(
    "div",
    { class: "row" },
    answer.abstained ? null : h("button", { type: "button", click: copy }, "Copy with references"),
    h("button", { type: "button", click: save }, "Download receipt"),
    done,
  );
}

function asText(answer, question) {
  const cited = new Set(answer.sentences.flatMap((sentence) => sentence.citations));
  const marks = (sentence) => sentence.citations.map((n) => `[${n}]`).join("");
  const reference = (s) =>
    `[${s.n}] ${s.title || s.document}. ${s.silo}, ${s.document}, characters ${s.start}-${s.end}.`;
  const missing = answer.missing.map(({ silo, reason }) => `Missing: ${silo} (${reason}).`);
  return [
    question,
    "",
    ...answer.sentences.map((sentence) => `${sentence.text} ${marks(sentence)}`),
    "",
    ...answer.sources.filter((source) => cited.has(source.n)).map(reference),
    ...missing,
    "",
    "Decision support: verify in the sources before acting.",
  ].join("\n");
}

// -- sources --------------------------------------------------------------------------------------

function sourcesPane(sources, cited, sentences) {
  const card = (source) => sourceCard(source, sentences, cited.has(source.n));
  const first = sources.filter((source) => cited.has(source.n)).map(card);
  const rest = sources.filter((source) => !cited.has(source.n)).map(card);
  const pane = h("section", { class: "sources", tabindex: "0", "aria-labelledby": "sources" });
  pane.append(h("h2", { id: "sources" }, "Sources"), ...first);
  if (rest.length) {
    const summary = h("summary", {}, `Also released, not cited (${rest.length})`);
    pane.append(h("details", { class: "rest" }, summary, rest));
  }
  return pane;
}

function sourceCard(source, sentences, open) {
  const text = h("p", { class: "text" }, marked(source, sentences, null));
  const number = h("span", { class: "number" }, String(source.n));
  const title = h("h3", {}, number, " ", source.title || source.document);
  const offsets = `characters ${source.start} to ${source.end}`;
  const where = h("p", { class: "small" }, h("strong", {}, source.silo), ` · ${source.document}, `);
  where.append(`${offsets} · score ${source.score.toFixed(2)}`);
  const options = { class: "card", id: `source-${source.n}`, open };
  return h("details", options, h("summary", {}, title), where, text);
}

function openSource(n, sentence, sources, sentences, from) {
  const card = $(`source-${n}`);
  const source = sources.find((item) => item.n === n);
  if (!card || !source) return;
  for (const other of document.querySelectorAll(".card.current")) {
    other.classList.remove("current");
    other.querySelector(".back").remove();
  }
  card.classList.add("current");
  card.open = true;
  if (card.parentNode.tagName === "DETAILS") card.parentNode.open = true;
  const text = card.querySelector(".text");
  text.replaceChildren(...marked(source, sentences, sentence));
  const back = h("button", { type: "button", class: "back" }, "Back to the sentence");
  back.addEventListener("click", () => from.focus());
  card.append(back);
  card.scrollIntoView({ block: "nearest" });
  card.querySelector("summary").focus({ preventScroll: true });
  text.querySelector(".current")?.scrollIntoView({ block: "nearest" });
  say(`Source ${n} opened, what it says is highlighted.`);
}

function marked(source, sentences, current) {
  const spans = [];
  for (const sentence of [current, ...sentences]) {
    for (const { n, start, end } of sentence?.spans ?? []) {
      const free = spans.every(([from, to]) => end <= from || to <= start);
      if (n === source.n && free) spans.push([start, end, sentence === current]);
    }
  }
  spans.sort((one, other) => one[0] - other[0]);
  // Offsets count characters, a JavaScript string counts some of them twice.
  const text = [...source.text];
  const piece = (from, to) => text.slice(from, to).join("");
  const parts = [];
  let at = 0;
  for (const [start, end, isCurrent] of spans) {
    parts.push(piece(at, start));
    parts.push(h("mark", { class: isCurrent ? "current" : "" }, piece(start, end)));
    at = end;
  }
  return [...parts, piece(at)];
}

// -- accounts -------------------------------------------------------------------------------------

function table(title, note, head, rows) {
  const cells = rows.map(([name, ...rest]) =>
    h("tr", {}, h("th", { scope: "row" }, name), rest.map((cell) => h("td", {}, String(cell)))),
  );
  const columns = head.map((name) => h("th", { scope: "col" }, name));
  return h(
    "section",
    {},
    h("h3", {}, title),
    note ? h("p", { class: "small" }, note) : null,
    h("table", {}, h("thead", {}, h("tr", {}, columns)), h("tbody", {}, cells)),
  );
}

function whatLeft({ plan, released, withheld, missing, abstained }) {
  const lost = new Set(missing.map((item) => item.silo));
  const left = Object.values(released).reduce((sum, n) => sum + n, 0);
  const unseen = abstained && left ? " They reached the gateway and are not shown." : "";
  const rows = plan.asked.map((silo) => {
    const unknown = lost.has(silo) && !(silo in released) ? "missing" : 0;
    return [silo, released[silo] ?? unknown, withheld[silo] ?? unknown];
  });
  const note = `${count(left, "passage")} left the hospitals.${unseen}`;
  return table("What left each hospital", note, ["Silo", "Released", "Withheld"], rows);
}

function promise({ skipped, coverage, audit }) {
  if (audit) return "All silos were asked, to check what the router promises.";
  if (coverage !== null) {
    const share = `${Math.round(100 * coverage)} %`;
    return `Promised: ${share} of the best passages, on average over questions.`;
  }
  return skipped.length ? "No share of the best passages is promised yet." : "";
}

function whySilos(plan) {
  const { asked, skipped, reasons } = plan;
  const row = (word) => (silo) => [silo, word, reasons[silo] ?? ""];
  const rows = [...asked.map(row("asked")), ...skipped.map(row("skipped"))];
  return table("Why these silos", promise(plan), ["Silo", "Router", "Reason"], rows);
}

function smallPrint({ timings_ms: timings, model, mode, receipt }) {
  const stages = Object.entries(timings).map(([name, ms]) => `${name} ${Math.round(ms)} ms`);
  const { created, federation } = receipt.body ?? {};
  const when = created ? `${new Date(created).toLocaleString(undefined, STAMP)}. ` : "";
  const where = federation ? ` Federation ${federation}.` : "";
  const text = `${when}Reasoner: ${model}. Mode: ${mode}.${where} Timings: ${stages.join(", ")}.`;
  return h("p", { class: "small" }, text);
}

// -- status ---------------------------------------------------------------------------------------

async function refreshStatus() {
  if (document.hidden) return;
  let [text, level] = ["Gateway does not answer", "down"];
  try {
    const response = await fetch("v1/status", { signal: AbortSignal.timeout(STATUS_EVERY_MS) });
    const { ready, hub, silos, profiled, refused_profiles: refused } = await response.json();
    const profiles = `${profiled.length} of ${count(silos.length, "silo")} with a profile`;
    const bad = refused.length ? `, ${count(refused.length, "profile")} refused` : "";
    text = `Hub line ${hub ? "up" : "down"}, ${profiles}${bad}`;
    level = !hub ? "down" : ready && !bad && profiled.length === silos.length ? "up" : "part";
  } catch {
    // The text says it.
  }
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").dataset.state = level;
}

// -- start ----------------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("textarea, input:not([type=radio], [type=checkbox])");
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && typing) {
    event.preventDefault();
    submit();
  } else if (event.key === "Escape") {
    stop();
  } else if (event.key === "/" && plain && !typing && $("slash").checked) {
    event.preventDefault();
    $("question").focus();
  }
});
document.addEventListener("visibilitychange", refreshStatus);
setInterval(refreshStatus, STATUS_EVERY_MS);
refreshStatus();
$("question").focus();
