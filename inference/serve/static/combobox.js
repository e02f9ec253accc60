// Titles suggested while a question is typed: a list box that floats under the question.
// Arrows move, Enter or a click chooses, Escape closes; the focus never leaves the question.

import { find, make } from "./dom.js";
import { ask } from "./api.js";
import { say } from "./words.js";

const LEAST_TYPED = 3;
const PAUSE = 120;

const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const words = (text) => folded(text).match(/[\p{L}\p{N}]+/gu) ?? [];

/** Complete a half-typed title at the end of a question; a question without one stays as it is. */
export function complete(question, title) {
  const own = words(title);
  const isOwn = (word) => {
    const begun = words(word)[0] ?? "";
    return begun !== "" && own.some((one) => one.startsWith(begun.slice(0, Math.max(3, begun.length - 2))));
  };
  const parts = question.trimEnd().split(/(\s+)/);
  let from = parts.length;
  while (from > 0 && isOwn(parts[from - 1])) from -= 2;
  from = Math.max(from, 0);
  return from >= parts.length ? question : parts.slice(0, from + (from ? 1 : 0)).join("") + title;
}

export class Combobox {
  constructor(choose, change) {
    this.input = find("question");
    this.list = find("titles");
    this.choose = choose;
    this.titles = [];
    this.active = -1;
    this.input.addEventListener("input", () => { change(); this.typed(); });
    this.input.addEventListener("keydown", (event) => this.pressed(event));
    this.input.addEventListener("blur", () => this.close());
    this.list.addEventListener("pointerdown", (event) => event.preventDefault()); // keep the focus
  }

  get isOpen() { return !this.list.hidden; }

  typed() {
    this.move(-1); // what was pointed at was for another text
    clearTimeout(this.timer);
    this.request?.abort();
    if (this.input.value.trim().length < LEAST_TYPED) return this.show([]);
    this.timer = setTimeout(() => this.look(), PAUSE);
  }

  async look() {
    const request = (this.request = new AbortController());
    try {
      const found = await ask("/suggest", { question: this.input.value }, request.signal);
      if (!request.signal.aborted && document.activeElement === this.input) this.show(found.titles);
    } catch { // who asks will be told
      if (!request.signal.aborted) this.show([]);
    }
  }

  show(titles) {
    this.titles = titles;
    this.list.replaceChildren(...titles.map((title, place) =>
      make("li", { role: "option", id: `title-${place}`, "aria-selected": "false", onclick: () => this.take(place) }, title)));
    this.active = -1;
    this.open(titles.length > 0);
    find("suggested").textContent = titles.length ? say("suggested", { count: titles.length }) : "";
  }

  open(isOpen) {
    this.list.hidden = !isOpen;
    this.input.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) this.move(-1);
  }

  close() {
    clearTimeout(this.timer);
    this.request?.abort();
    this.open(false);
  }

  move(place) {
    this.list.children[this.active]?.setAttribute("aria-selected", "false");
    this.active = place;
    const option = this.list.children[place];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.input.setAttribute("aria-activedescendant", option.id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  take(place) {
    const title = this.titles[place];
    this.input.value = complete(this.input.value, title);
    this.close();
    this.choose(title);
  }

  pressed(event) {
    const count = this.titles.length;
    if (event.isComposing) return;
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (!this.isOpen) { this.open(true); this.move(step > 0 ? 0 : count - 1); }
      else this.move(this.active < 0 ? (step > 0 ? 0 : count - 1) : (this.active + step + count) % count);
    } else if (event.key === "Enter" && this.isOpen && this.active >= 0) {
      event.preventDefault();
      this.take(this.active);
    } else if (event.key === "Escape" && this.isOpen) {
      event.preventDefault();
      this.close();
    }
  }
}
