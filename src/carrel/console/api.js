// The server's API: `call(plane, method, path, …)` with the right token, one repeat with a new one, and faults in words for people.

import * as auth from "./auth.js";

const VERSIONS = { pools: "2026-07-01", resources: "2022-12-01", data: "2025-10-02-preview" };
const WAIT_MS = [1000, 1500, 2500, 4000, 6000, 10_000, 15_000];

/** An answer that was no success. `target` names the field at fault, where the server says so. */
export class Fault extends Error {
  constructor(status, code, message, { target = "", trace = "", wait = 0, details = [] } = {}) {
    super(message);
    Object.assign(this, { name: "Fault", status, code, target, trace, wait, details });
  }
}

/** Nobody answered. */
export class Away extends Error {
  constructor() {
    super("Carrel does not answer.");
  }
}

/** Whether the server answers, for whoever wants to know: the banner, and what polls. */
class Line extends EventTarget {
  isUp = true;
  #tries = 0;

  up() {
    this.#tries = 0;
    if (this.isUp) return;
    this.isUp = true;
    this.dispatchEvent(new Event("up"));
  }

  down() {
    if (!this.isUp) return;
    this.isUp = false;
    this.dispatchEvent(new Event("down"));
    this.#knock();
  }

  /** Until somebody opens. */
  #knock() {
    if (this.isUp) return;
    const wait = WAIT_MS[Math.min(this.#tries++, WAIT_MS.length - 1)];
    setTimeout(async () => {
      try {
        const reply = await fetch("/health", { cache: "no-store", credentials: "omit" });
        if (reply.ok) return this.up();
      } catch {
        // Not yet.
      }
      this.#knock();
    }, document.hidden ? WAIT_MS.at(-1) : wait);
  }
}

export const line = new Line();

let ahead = 0;

/** The time as the server has it: what it says of ages and ends is by its clock. */
export const serverNow = () => Date.now() + ahead;

/**
 * Ask the server. Returns the reply's JSON, `null` where there is none, or with `raw` the Response itself.
 *
 * `plane` is arm, data or graph; `path` begins with a slash; `query` is added to it, and the api-version. `body` is sent as JSON, or as it is
 * where it is a Blob or FormData. Raises Fault, Away, and what `signal` was aborted with.
 */
export async function call(plane, method, path, { body, query = {}, headers = {}, signal, raw = false } = {}) {
  const url = address(plane, path, query);
  const options = { method, signal, credentials: "omit", redirect: "error", cache: "no-store", headers: { Accept: "application/json", ...headers } };
  if (body instanceof Blob || body instanceof FormData) options.body = body;
  else if (body !== undefined) [options.body, options.headers["Content-Type"]] = [JSON.stringify(body), "application/json"];
  let reply = await sent(url, options, await token(plane));
  if (reply.status === 401) reply = await sent(url, options, await token(plane, true));
  if (!reply.ok) throw await fault(reply);
  if (raw) return reply;
  const text = await reply.text();
  return text ? JSON.parse(text) : null;
}

/** As `call` posts a form, for a body whose way there is worth watching: `onProgress(part)`. fetch does not tell. */
export async function upload(path, { body, query = {}, headers = {}, signal, onProgress }) {
  const url = address("data", path, query);
  let reply = await uploaded(url, headers, body, signal, onProgress, await token("data"));
  if (reply.status === 401) reply = await uploaded(url, headers, body, signal, onProgress, await token("data", true));
  if (!reply.ok) throw await fault(reply);
  return reply.json();
}

function uploaded(url, headers, body, signal, onProgress, bearer) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries({ ...headers, Authorization: `Bearer ${bearer}`, Accept: "application/json" })) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total, lengthComputable }) => lengthComputable && onProgress(loaded / total);
    request.onload = () => {
      line.up();
      const kept = request.getAllResponseHeaders().trim().split("\r\n").map((each) => each.split(": ", 2)).filter((each) => each.length === 2);
      resolve(new Response(request.status === 204 ? null : request.responseText, { status: request.status, headers: kept }));
    };
    request.onerror = () => {
      line.down();
      reject(new Away());
    };
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    if (signal?.aborted) request.onabort();
    else request.send(body);
  });
}

/** All pages of a list. */
export async function all(plane, path, { query = {}, most = 100_000, ...options } = {}) {
  const found = [];
  let next = { path, query };
  while (next && found.length < most) {
    const page = await call(plane, "GET", next.path, { ...options, query: next.query });
    found.push(...(page?.value ?? []));
    next = page?.nextLink ? linked(page.nextLink) : null;
  }
  return found;
}

/** A link that the server gave, as path and query: wherever it says that it is, we ask our own server. */
function linked(link) {
  const url = new URL(link, location.origin);
  return { path: url.pathname, query: Object.fromEntries(url.searchParams) };
}

function address(plane, path, query) {
  const url = new URL(path, location.origin);
  if (url.origin !== location.origin) throw new Error("not our server");
  for (const [name, value] of Object.entries({ "api-version": version(plane, path), ...query })) if (value !== undefined) url.searchParams.set(name, value);
  return url;
}

function version(plane, path) {
  if (plane === "graph" || path.startsWith("/.carrel/")) return undefined;
  if (plane === "data") return VERSIONS.data;
  return /\/providers\/Microsoft\.App\//i.test(path) ? VERSIONS.pools : VERSIONS.resources;
}

async function token(plane, isRefused = false) {
  try {
    return await auth.token(plane, { isRefused });
  } catch (error) {
    if (error.code === "away") {
      line.down();
      throw new Away();
    }
    throw error instanceof auth.SignInFault ? new Fault(401, error.code || "Unauthorized", error.message) : error;
  }
}

async function sent(url, options, bearer) {
  const asked = { ...options, headers: { ...options.headers, Authorization: `Bearer ${bearer}` } };
  try {
    const reply = await fetch(url, asked).catch((error) => again(error, url, asked));
    if (reply.status !== 502 && reply.status !== 504) line.up();
    const told = Date.parse(reply.headers.get("date") ?? "");
    if (Math.abs(told - Date.now() - ahead) > 2000) ahead = told - Date.now();
    return reply;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    line.down();
    throw new Away();
  }
}

/** What changes nothing is asked for once more before it is believed that nobody is there: the connection alone may have broken. */
async function again(error, url, options) {
  if (options.method !== "GET" || options.signal?.aborted) throw error;
  await new Promise((resolve) => setTimeout(resolve, 250));
  return fetch(url, options);
}

async function fault(reply) {
  const told = (await reply.json().catch(() => ({})))?.error ?? {};
  const wait = Number(reply.headers.get("retry-after")) || 0;
  const details = (told.details ?? []).map(({ target = "", message = "" }) => ({ target, message }));
  const more = { details, target: told.target ?? "", trace: told.traceId ?? reply.headers.get("x-ms-request-id") ?? "", wait };
  return new Fault(reply.status, told.code ?? "", inWords(reply.status, told), more);
}

/** The server's sentence is the best there is; for some answers a person wants another one first. */
function inWords(status, told) {
  if (status === 403) return `You may not do this here. ${action(told.message)}`.trim();
  return told.message || (status >= 500 ? "The server could not do this now." : `The server refused (${status}).`);
}

function action(message = "") {
  const found = /perform action '([^']+)' over scope '([^']+)'/.exec(message);
  return found ? `It takes a role that allows ${found[1]} on ${found[2].split("/").at(-1)}.` : message;
}
