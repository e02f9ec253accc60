// The page: tabs, questions and their answers, links, the session's history.

import { Refused, ask as post, stream } from "./api.js";
import { draw, take } from "./answer.js";
import { Combobox } from "./combobox.js";
import { copy, find, make, save } from "./dom.js";
import { start as startList } from "./list.js";
import { say, translate } from "./words.js";

const STORED = "answers";
const MOST_KEPT = 30;
const PHONE = "(max-width: 760px)";

let about = null;
let chosen = null; // the title that was chosen for the question as it stands
let entry = null; // the question whose answer is shown, with its versions
let running = null;
let earlier = [];

function status(text, isError = false) {
  find("status").textContent = isError ? "" : text;
  find("alert").textContent = isError ? text : "";
}

function choose(title) {
  chosen = title;
  find("chosen").hidden = title === null;
  find("chosen-title").textContent = title ?? "";
}

// ---- answers

function show() {
  const result = find("result");
  const action = document.activeElement?.dataset?.action;
  const isThere = Boolean(entry?.versions.length);
  result.replaceChildren(...(isThere ? draw(entry, actions) : []));
  result.hidden = !isThere;
  find("examples").hidden = entry !== null || !about?.examples.length;
  if (action) (result.querySelector(`[data-action=${action}]:enabled`) ?? result.querySelector("[data-action]:enabled"))?.focus();
}

function scrollToAnswer() {
  if (!matchMedia(PHONE).matches) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  find("result").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

function begin(question) {
  if (entry?.versions.some((version) => version.answer)) remember(entry);
  entry = question && { ...question, versions: [], at: 0 };
  show();
}

/** Ask the question of the entry once more, with a seed, as its newest version. */
async function write(seed) {
  running?.abort();
  const mine = (running = new AbortController());
  const own = entry;
  const version = { seed };
  own.versions.push(version);
  own.at = own.versions.length - 1;
  find("stop").hidden = false;
  status(say("looking"));
  show();
  scrollToAnswer();
  const body = { question: own.question, title: own.title, seed, compare: own.compare, anyway: own.anyway };
  try {
    await stream("/ask", body, mine.signal, (event) => pass(own, version, event));
    if (mine === running) finish(own, version);
  } catch (error) {
    if (mine === running) fail(own, version, error);
  }
  if (mine === running) {
    running = null;
    find("stop").hidden = true;
  }
}

function pass(own, version, event) {
  take(version, event);
  if (entry !== own || own.versions[own.at] !== version) return;
  if (event.event === "text" || event.event === "base") {
    const place = find("result").querySelector(event.event === "text" ? ".text" : ".base-text");
    if (place && !version.checks !== (event.event === "base")) place.textContent = version[event.event];
    else show();
    status(say(event.event === "text" ? "writing" : "writing_base"));
  } else if (event.event === "waiting") {
    status(say("waiting", { ahead: event.ahead + 1 }));
  } else if (event.event === "loading_base") {
    status(say("loading_base"));
  } else {
    show();
  }
}

function finish(own, version) {
  const { status: how, matches, title } = version.found;
  if (how === "which" || how === "no_match") {
    own.versions.pop();
    status(how === "which" ? say("which") : say(matches.length ? "no_match" : "no_match_at_all"), true);
    const pseudo = { ...own, versions: [version], at: 0 };
    find("result").replaceChildren(...draw(pseudo, actions));
    return;
  }
  own.title = version.found.record ? title : own.title;
  version.seed = version.answer.seed;
  status(say("done", { tokens: version.checks?.new_tokens ?? 0, seed: String(version.seed) }));
  show();
  history.replaceState(null, "", address(own, version));
}

const CODES = { seed: "seed_wrong" };

function sentence(error) {
  if (!(error instanceof Refused)) return `${say("failed")} ${say("detail", { detail: String(error) })}`;
  const said = say(CODES[error.code] ?? error.code, { limit: about?.max_characters ?? 0, most: about?.most_titles ?? 0 });
  return error.code === "failed" && error.detail ? `${said} ${say("detail", { detail: error.detail })}` : said;
}

function fail(own, version, error) {
  const isStopped = error.name === "AbortError";
  if (isStopped) status(say("stopped"));
  else status(sentence(error), true);
  if (isStopped && version.text) version.stopped = true;
  else if (entry === own) {
    own.versions.pop();
    own.at = Math.max(own.versions.length - 1, 0);
    if (!own.versions.length) entry = null;
  }
  show();
}

const actions = {
  choose(title) {
    choose(title);
    begin({ ...entry, title });
    write(settings().seed);
    find("result").focus();
  },
  turn(step) {
    entry.at += step;
    show();
  },
  another() {
    const seeds = entry.versions.map((version) => version.seed);
    write(Math.max(...seeds) + 1);
  },
  async copy() {
    status(say((await copy(current().text ?? "")) ? "copied_text" : "not_copied"));
  },
  async link() {
    const url = new URL(address(entry, current()), location.href).href;
    history.replaceState(null, "", url);
    status(say((await copy(url)) ? "copied_link" : "not_copied"));
  },
  json() {
    save("answer.json", "application/json", JSON.stringify(current().answer));
  },
  vote(thumb) {
    send(current(), thumb, current().word ?? "");
  },
  explain(word) {
    send(current(), current().vote, word);
  },
};

const current = () => entry.versions[entry.at];

async function send(version, thumb, word) {
  try {
    await post("/feedback", { id: version.id, thumb, word });
    Object.assign(version, { vote: thumb, word });
    status(say("thanks"));
    show();
  } catch (error) {
    status(sentence(error), true);
  }
}

// ---- questions

function settings() {
  const seed = Number(find("seed").value);
  return {
    seed: find("seed").value !== "" && Number.isSafeInteger(seed) ? seed : about.seed,
    compare: find("compare").checked,
    anyway: find("anyway").checked,
  };
}

function submit() {
  const { seed, compare, anyway } = settings();
  const question = find("question").value;
  if (running) running.abort();
  begin(null);
  if (!question.trim()) return status(say("empty"), true);
  begin({ question, title: chosen, compare, anyway });
  return write(seed);
}

/** The address that brings an answer back; what is behind # never leaves the browser. */
function address(own, version) {
  const words = new URLSearchParams({ q: own.question, seed: version.seed });
  if (own.title) words.set("title", own.title);
  if (own.compare) words.set("compare", "1");
  if (own.anyway) words.set("anyway", "1");
  words.set("model", about.model.slice(0, 12));
  return `#${words}`;
}

function follow() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (!words.get("q")) return;
  find("question").value = words.get("q");
  choose(words.get("title"));
  find("seed").value = words.get("seed") ?? about.seed;
  find("compare").checked = words.has("compare");
  find("anyway").checked = words.has("anyway");
  const isOther = words.has("model") && !about.model.startsWith(words.get("model"));
  submit().then(() => { if (isOther) status(`${find("status").textContent} ${say("other_model")}`); });
}

// ---- history of the session

function remember(own) {
  earlier = [own, ...earlier.filter((other) => other !== own)].slice(0, MOST_KEPT);
  try {
    sessionStorage.setItem(STORED, JSON.stringify(earlier));
  } catch { /* full or forbidden: it lasts as long as the page */ }
  list();
}

function list() {
  find("history").hidden = earlier.length === 0;
  find("history").querySelector("ol").replaceChildren(...earlier.map((own) =>
    make("li", {}, make("button", { type: "button", class: "plain", onclick: () => bringBack(own) },
      make("q", {}, own.question), make("span", { class: "note" }, own.title ? ` — ${own.title}` : "")))));
}

function bringBack(own) {
  running?.abort();
  const shown = entry;
  earlier = earlier.filter((other) => other !== own);
  entry = own;
  if (shown?.versions.some((version) => version.answer)) remember(shown);
  find("question").value = own.question;
  choose(own.title ?? null);
  find("compare").checked = own.compare;
  find("anyway").checked = own.anyway;
  status("");
  list();
  show();
  find("result").focus();
  history.replaceState(null, "", address(own, current()));
}

// ---- tabs

const TABS = ["ask", "write", "report"];

function open(name) {
  for (const tab of TABS) {
    find(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    find(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    find(`panel-${tab}`).hidden = tab !== name;
  }
  if (name === "report") openReport();
}

function openReport() {
  const panel = find("panel-report");
  if (panel.childElementCount) return;
  if (!about.has_report) panel.append(make("p", { class: "card" }, say("no_report")));
  else panel.append(make("p", {}, make("a", { href: "/report", target: "_blank" }, say("report_alone"))),
    make("iframe", { src: "/report", title: say("report_frame") }));
}

function startTabs() {
  for (const [place, name] of TABS.entries()) {
    find(`tab-${name}`).addEventListener("click", () => open(name));
    find(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = TABS[(place + step + TABS.length) % TABS.length];
      open(next);
      find(`tab-${next}`).focus();
    });
  }
}

// ---- start

function introduce() {
  find("run").textContent = say("run", { titles: about.titles, run: about.run });
  const { verdict } = about;
  find("verdict").hidden = false;
  find("verdict").className = verdict ? { true: "passed", false: "missed", null: "open" }[String(verdict.passed)] : "open";
  find("verdict").replaceChildren(...(verdict
    ? [`${say("verdict")} `, make("b", { lang: "en" }, verdict.headline), " ", make("button", { type: "button", class: "plain", onclick: () => { open("report"); find("tab-report").focus(); } }, say("to_report"))]
    : [say("no_verdict")]));
  find("question").placeholder = say("placeholder");
  find("seed").value = about.seed;
  find("examples").querySelector(".chips").replaceChildren(...about.examples.map((title, place) => {
    const question = say(place % 2 ? "example_2" : "example_1", { title });
    return make("button", { type: "button", class: "chip", onclick: () => { find("question").value = question; choose(null); submit(); find("result").focus(); } }, question);
  }));
}

async function start() {
  translate();
  startTabs();
  try {
    about = await (await fetch("/about")).json();
  } catch {
    status(say("network"), true);
    return;
  }
  introduce();
  const box = new Combobox(choose, () => choose(null));
  find("form").addEventListener("submit", (event) => { event.preventDefault(); box.close(); submit(); });
  find("stop").addEventListener("click", () => { running?.abort(); find("ask").focus(); });
  find("unchoose").addEventListener("click", () => { choose(null); find("question").focus(); });
  addEventListener("hashchange", follow);
  addEventListener("pagehide", () => { if (entry?.versions.some((version) => version.answer)) remember(entry); });
  try { earlier = JSON.parse(sessionStorage.getItem(STORED)) ?? []; } catch { earlier = []; }
  list();
  startList(about, sentence);
  show();
  document.body.dataset.ready = "";
  if (location.hash.length > 1) follow();
  else if (!matchMedia(PHONE).matches) find("question").focus();
}

start();
