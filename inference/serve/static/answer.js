// An answer and what it rests on, drawn from the server's events.

import { make } from "./dom.js";
import { percent, say } from "./words.js";

const LEAST_COPIED = 40;

/** Take over an event into a version of an answer. */
export function take(version, event) {
  if (event.event === "text" || event.event === "base") {
    const kept = [...(version[event.event] ?? "")].slice(0, event.from).join("");
    version[event.event] = kept + event.text;
  } else if (event.event === "done") {
    version.id = event.id;
    version.answer = event.answer;
  } else if (event.event === "found" || event.event === "checks") {
    version[event.event] = event;
  }
}

/** Draw an entry at its version: the answer's card and the evidence. */
export function draw(entry, actions) {
  const version = entry.versions[entry.at];
  const { found } = version;
  const head = make("p", { class: "asked" }, make("span", { class: "kicker" }, say("you_asked")), " ", make("q", {}, entry.question));
  if (!found) return [make("article", { class: "card answer", "aria-busy": "true" }, head)];
  if (found.status === "which" || found.status === "no_match") return [openCard(head, found, actions)];
  const card = make("article", { class: "card answer", "aria-busy": String(!version.answer) }, head,
    make("h2", {}, found.title ?? ""), badge(found), texts(entry, version), checks(version),
    tools(entry, version, actions));
  return [card, evidence(version)];
}

function openCard(head, found, actions) {
  const titles = found.matches.map((match) => match.title);
  return make("article", { class: "card answer" }, head,
    make("ul", { class: "choices" }, titles.map((title) =>
      make("li", {}, make("button", { type: "button", onclick: () => actions.choose(title) }, title)))));
}

function badge(found) {
  const kind = found.status === "invented" ? "invented" : found.training;
  return make("p", {}, make("span", { class: `badge ${kind}` }, say(kind)));
}

function texts(entry, version) {
  const isWhole = Boolean(version.checks);
  const empty = isWhole && !(version.text ?? "").trim();
  const own = make("p", { class: `text${isWhole || version.stopped ? "" : " busy"}` }, isWhole ? marked(version) : version.text ?? "");
  if (empty) own.replaceChildren(make("em", {}, say(version.checks.left_out.length ? "nothing_supported" : "nothing")));
  if (!entry.compare) return own;
  const base = make("p", { class: `text base-text${version.answer || version.stopped ? "" : " busy"}` }, version.base ?? "");
  return make("div", { class: "pair" }, own, make("section", { class: "base" }, make("h3", {}, say("base")), base));
}

/** Mark in a whole text what is copied and which numbers nothing supports; places are code points. */
function marked(version) {
  const letters = [...(version.text ?? "")];
  const { copied, numbers } = version.checks;
  const ends = [...new Set([0, letters.length, ...[...copied, ...numbers].flatMap((one) => [one.begin, one.end])])]
    .filter((end) => end <= letters.length).sort((one, other) => one - other);
  return ends.slice(1).map((end, place) => {
    const begin = ends[place];
    const covers = (one) => one.begin <= begin && end <= one.end;
    let piece = letters.slice(begin, end).join("");
    if (numbers.some(covers)) piece = make("u", { title: say("unsupported") }, piece);
    const stretch = copied.find(covers);
    return stretch ? make("mark", { title: origin(stretch) }, piece) : piece;
  });
}

function origin(stretch) {
  if (stretch.where === "record") return say("in_record");
  if (stretch.where === "neighbour") return say("in_neighbour", { title: stretch.title });
  return stretch.title ? say("in_training", { title: stretch.title }) : say("in_several");
}

function checks(version) {
  const checked = version.checks;
  if (!checked) return null;
  const items = [];
  const add = (isFine, text, ...more) => items.push(
    make("li", { class: isFine ? "fine" : "look" }, make("span", { "aria-hidden": "true", class: "sign" }, isFine ? "✓" : "!"), make("span", {}, text, ...more)));
  if (checked.finish_reason === "length") add(false, say("cut"));
  if (checked.finish_reason === "loop") add(false, say("loop"));
  const { kept, missing } = checked.title_words ?? { kept: [], missing: [] };
  const all = kept.length + missing.length;
  if (all && missing.length) add(false, say("words_some", { kept: kept.length, all, missing: missing.join(", ") }));
  else if (all) add(true, say("words_all", { all }));
  if (checked.unsupported.length) add(false, say("numbers_other", { numbers: checked.unsupported.join(", ") }));
  else add(true, say("numbers_fine"));
  if (checked.left_out.length) add(false, say("left_out"), list(checked.left_out.map((one) => make("s", {}, one))));
  if (checked.copied.length) add(false, say("recited", { share: percent(checked.copied_share) }), list(checked.copied.map((one) => [make("mark", {}, one.text), ` ${origin(one)}`])));
  else add(true, say("recited_none", { least: LEAST_COPIED }));
  return make("section", { class: "checks" }, make("h3", {}, say("checks")), make("ul", {}, items));
}

const list = (items) => make("ul", {}, items.map((item) => make("li", {}, item)));

function tools(entry, version, actions) {
  if (!version.answer) return null;
  const button = (name, act, properties = {}, text = say(name)) =>
    make("button", { type: "button", "data-action": name, onclick: act, ...properties }, text);
  const all = entry.versions.length;
  const versions = all < 2 ? null : make("span", { class: "versions", role: "group", "aria-label": say("version", { at: entry.at + 1, all }) },
    button("earlier", () => actions.turn(-1), { "aria-label": say("earlier"), disabled: entry.at === 0 }, "‹"),
    make("span", {}, `${entry.at + 1}/${all}`),
    button("later", () => actions.turn(1), { "aria-label": say("later"), disabled: entry.at === all - 1 }, "›"));
  const thumb = (name) => button(name, () => actions.vote(name), { "aria-label": say(name), "aria-pressed": String(version.vote === name), class: "thumb" }, hand());
  const why = !version.vote ? null : make("form", { class: "why", onsubmit: (event) => { event.preventDefault(); actions.explain(event.target.elements.word.value); } },
    make("label", { for: "word" }, say("why")),
    make("input", { id: "word", name: "word", maxlength: 300, value: version.word ?? "" }), make("button", {}, say("send")));
  return make("div", { class: "tools" }, versions, button("another", actions.another), button("copy", actions.copy),
    button("link", actions.link), button("json", actions.json),
    make("span", { class: "votes", role: "group", "aria-label": say("vote") }, thumb("up"), thumb("down")), why);
}

/** Draw a thumb up; the style turns it round. */
function hand() {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  path.setAttribute("d", "M2 10h4v11H2zM8 21V10l4-8c2 0 3 1.3 2.6 3.200L14 9h6c1.2 0 2.100 1.1 1.900 2.300l-1.500 8C20.200 20.300 19.400 21 18.400 21z");
  picture.append(path);
  return picture;
}

function evidence(version) {
  const { found, checks: checked } = version;
  const { record, location } = found;
  const others = found.matches.filter((match) => match.title !== found.title).slice(0, 3);
  const parts = [make("h2", {}, say("rests"))];
  if (checked && checked.shown.length) {
    parts.push(make("p", {}, checked.ground === "record" ? say("grounded_record") : say("grounded_neighbours", { titles: checked.shown.join("; ") })));
  }
  if (checked?.instruction) parts.push(make("p", {}, say("instruction", { instruction: checked.instruction })));
  if (record) {
    parts.push(make("h3", {}, say("record")), make("p", { class: "record", tabindex: "0", role: "region", "aria-label": say("record") }, record.content || make("em", {}, say("no_content"))));
    if (record.attributes) parts.push(make("p", { class: "note" }, record.attributes));
    parts.push(make("p", { class: "note" }, say("uid", { uid: record.uid })));
  }
  if (location) {
    parts.push(make("p", { class: "note" }, say("line"), " ", make("code", {}, `${location.path}, ${location.place}`)));
    if (location.command) parts.push(make("p", { class: "note" }, make("code", {}, location.command)));
  }
  if (others.length) parts.push(make("h3", {}, say("also")), list(others.map((match) => `${match.title} (${percent(match.score)})`)));
  if (parts.length === 1) parts.push(make("p", {}, say("unknown")));
  return make("aside", { class: "card evidence", "aria-label": say("rests") }, parts);
}
