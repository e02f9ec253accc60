// The server's doors.

/** What the server refused, by its code. */
export class Refused extends Error {
  constructor(code, detail = "") {
    super(detail || code);
    this.code = code;
    this.detail = detail;
  }
}

const BY_STATUS = { 404: "forgotten", 408: "network", 413: "too_long", 422: "form", 429: "busy", 503: "busy" };

async function post(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST", body: JSON.stringify(body), signal, headers: { "content-type": "application/json" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("network");
  }
  if (response.ok) return response;
  let said = {};
  const text = await response.text();
  try { said = JSON.parse(text); } catch { said = { detail: text.trim() }; }
  throw new Refused(said.code ?? BY_STATUS[response.status] ?? "failed", said.detail);
}

export async function ask(path, body, signal) {
  return (await post(path, body, signal)).json();
}

/** Post, and pass on each line of the answer as it comes; end with its last event. */
export async function stream(path, body, signal, pass) {
  const reader = (await post(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("network");
    }
    if (piece.done) break;
    const lines = (rest + piece.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      last = JSON.parse(line);
      if (last.event === "refused") throw new Refused(last.code, last.detail);
      pass(last);
    }
  }
  if (last?.event !== "done") throw new Refused("network");
  return last;
}
