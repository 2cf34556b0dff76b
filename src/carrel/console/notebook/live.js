// The session of a page, as the server tells of it: whether it lives, until when, and what can be done with it. Whoever wants to know listens
// for "change".

import { Fault, call } from "../api.js";

export const STATES = { unknown: "Looking…", none: "Not begun", live: "Live", ended: "Ended" };

export class Live extends EventTarget {
  state = "unknown";
  view = null; // as the server has it; of one that has ended, the last that was heard
  #lost = false;

  constructor(pool, identifier) {
    super();
    Object.assign(this, { pool, identifier });
  }

  /** The session's own etag: another one each time that the identifier gets a new session. */
  get etag() {
    return this.state === "live" ? this.view.etag : "";
  }

  ask(method, route, options = {}) {
    return call("data", method, `${this.pool.path}/${route}`, { ...options, query: { identifier: this.identifier, ...options.query } });
  }

  /** Look whether it lives. It is no use of it. */
  async look(signal) {
    try {
      this.#seen(await this.ask("GET", "session", { signal }));
    } catch (error) {
      if (!(error instanceof Fault) || error.status !== 404) throw error;
      this.gone();
    }
  }

  /** It is not there: it has ended, or has never begun. */
  gone() {
    const state = this.state === "live" || this.state === "ended" ? "ended" : "none";
    if (state === this.state) return;
    this.state = state;
    this.#tell();
  }

  async keepAlive() {
    this.#seen(await this.ask("POST", "session/keepAlive"));
  }

  async restart() {
    this.#seen(await this.ask("POST", "session/restart"));
    this.dispatchEvent(new Event("restart"));
  }

  async end() {
    try {
      await this.ask("DELETE", "session");
    } catch (error) {
      if (!(error instanceof Fault) || error.status !== 404) throw error;
    }
    this.gone();
  }

  /** Whether a new session took the place of one that was seen here, and nobody has been told yet. */
  takeRenewal() {
    const was = this.#lost;
    this.#lost = false;
    return was;
  }

  #seen(view) {
    if (this.view && this.view.etag !== view.etag) this.#lost = true;
    [this.view, this.state] = [view, "live"];
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
