// Server-sent events by fetch, which takes a token in a header where EventSource does not; and an execution followed by them to its end, over
// lost connections and a server that was away.

import { Away, Fault, call } from "../api.js";

const WAITS_MS = [250, 500, 1000, 2000, 4000, 8000];
const MOST_TRIES = 40; // in a row without an event: some five minutes
const LONGEST = 64 * 1024 * 1024; // characters of one event

/** The events of a reply, as `{kind, id, data}` with `data` text. */
export async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { kind: "message", id: null, data: [] };
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n"); // the server ends lines with this alone
      rest = lines.pop();
      if (rest.length > LONGEST) throw new Error("an event without an end");
      for (const line of lines) {
        if (line === "") {
          if (event.data.length) yield { ...event, data: event.data.join("\n") };
          event = { kind: "message", id: event.id, data: [] };
        } else take(event, line);
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function take(event, line) {
  const colon = line.indexOf(":");
  if (colon === 0) return; // a comment
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "event") event.kind = value;
  else if (name === "id") event.id = value;
  else if (name === "data") event.data.push(value);
}

/**
 * Run `body` in a session, or follow the execution `id` where there is no body, and hand each event to `onEvent(kind, data)`; the last one is
 * `result`. Where the connection is lost it is taken up behind the last event. Raises Fault, and what `signal` was aborted with.
 */
export async function told({ path, identifier, id, body, onEvent, signal, onLost = () => {} }) {
  let last = null;
  let hasBegun = body === undefined;
  for (let tries = 0; ; ) {
    try {
      const reply = hasBegun ? await follow(path, identifier, id, last, signal) : await begin(path, identifier, id, body, signal);
      hasBegun = true;
      for await (const event of events(reply)) {
        tries = 0;
        last = event.id ?? last;
        const data = JSON.parse(event.data);
        if (event.kind === "error") throw faultOf(data);
        onEvent(event.kind, data);
        if (event.kind === "result") return;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof Fault && !isPassing(error, hasBegun)) throw error;
      if (!(error instanceof Fault || error instanceof Away || error instanceof TypeError || error.name === "AbortError")) throw error;
      if (tries >= MOST_TRIES) throw error;
    }
    onLost();
    await pause(WAITS_MS[Math.min(tries++, WAITS_MS.length - 1)], signal);
  }
}

/** Repeating is safe: the server knows an operation that it has begun by its id, and tells that one (docs/reference/routes.md). */
function begin(path, identifier, id, body, signal) {
  const headers = { Accept: "text/event-stream", "operation-id": id };
  return call("data", "POST", `${path}/executions`, { query: { identifier }, headers, body, signal, raw: true });
}

function follow(path, identifier, id, last, signal) {
  const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
  return call("data", "GET", `${path}/executions/${encodeURIComponent(id)}`, { query: { identifier }, headers, signal, raw: true });
}

/** The gateway is being replaced, or cannot reach the host just now. */
function isPassing(fault, hasBegun) {
  return fault.status === 502 || fault.status === 504 || (fault.status === 503 && hasBegun) || fault.code === "HostUnavailable";
}

function faultOf(body) {
  const told = body.error ?? {};
  return new Fault(0, told.code ?? "", told.message ?? "The execution could not be followed any further.", { trace: told.traceId ?? "" });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
