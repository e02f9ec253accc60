// The tab that writes descriptions for a list of titles, pasted or in a CSV.

import { Refused, stream } from "./api.js";
import { find, make } from "./dom.js";
import { say } from "./words.js";

const LARGEST = 2 ** 20;

export function start(about, sentence) {
  let running = null;

  function status(text, isError = false) {
    find("list-status").textContent = isError ? "" : text;
    find("list-alert").textContent = isError ? text : "";
  }

  const pasted = () => find("list-titles").value.split("\n").filter((line) => line.trim());

  async function wishes() {
    const file = find("list-file").files[0];
    if (file && file.size > LARGEST) throw new Refused("list_large");
    if (file) return { csv: await file.text() };
    const titles = pasted();
    if (!titles.length) throw new Refused("titles_none");
    if (titles.length > about.most_titles) throw new Refused("titles_many");
    return { titles };
  }

  function pass(event, rows) {
    if (event.event === "waiting") status(say("list_waiting", { ahead: event.ahead + 1 }));
    if (event.event === "begun") {
      find("list-progress").max = event.rows;
      rows.all = event.rows;
    }
    if (event.event === "row") {
      find("list-progress").value = event.place;
      rows.body.append(row(event));
    }
    if (event.event === "begun" || event.event === "row") status(say("list_row", { done: event.place ?? 0, rows: rows.all }));
  }

  function row(event) {
    return make("tr", {}, make("th", { scope: "row" }, event.title), make("td", {}, event.description ?? ""), make("td", {}, notes(event).join("; ")));
  }

  function notes(event) {
    if (event.refused === "empty_title") return [say("note_empty_title")];
    if (event.refused) return [say("note_refused", { why: event.refused })];
    return [
      event.in_catalogue ? null : say("note_invented"),
      event.title_words_missing.length ? say("note_missing", { missing: event.title_words_missing.join(", ") }) : null,
      event.unsupported_numbers.length ? say("note_numbers", { numbers: event.unsupported_numbers.join(", ") }) : null,
      event.left_out.length ? say("note_left_out", { count: event.left_out.length }) : null,
    ].filter(Boolean);
  }

  function table() {
    const body = make("tbody");
    const names = ["column_title", "column_description", "column_notes"];
    find("list-table").replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col" }, say(name))))), body));
    find("list-table").hidden = false;
    return { body, all: 0 };
  }

  function downloads(id) {
    const link = (form, ending) => make("a", { class: "button", href: `/write/${id}.${ending}`, download: `descriptions.${ending}` }, say("download", { form }));
    find("list-downloads").replaceChildren(link("Parquet", "parquet"), link("CSV", "csv"));
    find("list-downloads").hidden = false;
  }

  async function write() {
    running?.abort();
    const mine = (running = new AbortController());
    find("list-downloads").hidden = true;
    find("list-table").hidden = true;
    try {
      const body = await wishes();
      const rows = table();
      find("list-progress").value = 0;
      find("list-progress").hidden = false;
      find("list-stop").hidden = false;
      const done = await stream("/write", body, mine.signal, (event) => pass(event, rows));
      if (mine !== running) return;
      downloads(done.id);
      status(say("list_done", { rows: done.rows, refused: done.refused }));
    } catch (error) {
      if (mine !== running) return;
      if (error.name === "AbortError") status(say("stopped"));
      else status(error.code === "too_long" ? say("list_large") : sentence(error), true);
    }
    find("list-progress").hidden = true;
    find("list-stop").hidden = true;
    running = null;
  }

  find("list").addEventListener("submit", (event) => { event.preventDefault(); write(); });
  find("list-stop").addEventListener("click", () => running?.abort());
  find("list-titles").addEventListener("input", () => {
    find("list-file").value = "";
    status(say("list_count", { count: pasted().length }));
  });
  status(say("list_hint", { most: about.most_titles }));
}
