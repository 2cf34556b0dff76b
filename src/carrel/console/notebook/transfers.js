// Files on their way, each with how far it is and a way to stop it. One goes up at a time: a browser has six connections to a server, and
// running code and looking at the session need some.

import { Fault, upload } from "../api.js";
import { bytes } from "../words.js";
import { fill, h, icon, say } from "../ui.js";

const LARGEST = 134_217_728; // what the server takes (docs/reference/limits.md)

export class Transfers {
  #turn = Promise.resolve();
  element = h("ul.transfers", { ariaLabel: "Transfers" });

  /** Put `file` into `directory`. `replace(name, fault)` is asked where something is there already, and gives headers to do it with, or null. */
  put(live, directory, file, replace) {
    const row = new Row(file.name, file.size, "up");
    this.element.append(row.element);
    const work = async () => {
      if (row.isStopped) return false;
      if (file.size > LARGEST) return row.fail(`It has ${bytes(file.size)}; ${bytes(LARGEST)} may be uploaded.`);
      return this.#put(live, directory, file, replace, row);
    };
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #put(live, directory, file, replace, row) {
    const form = new FormData();
    form.append("file", file, file.name);
    const query = { identifier: live.identifier, path: directory || undefined };
    const send = (headers) => upload(`${live.pool.path}/files`, { query, headers, body: form, signal: row.signal, onProgress: (part) => row.at(part) });
    try {
      await send({ "If-None-Match": "*" }).catch(async (error) => {
        if (!(error instanceof Fault) || error.status !== 412) throw error;
        row.at(0);
        const headers = await replace(file.name);
        if (!headers) throw new DOMException("kept", "AbortError");
        return send(headers);
      });
      row.end();
      return true;
    } catch (error) {
      if (row.isStopped || error.name === "AbortError") return row.end();
      return row.fail(error instanceof Fault && error.status === 412 ? "It has changed meanwhile and was not replaced. Look at it, then try again." : error.message);
    }
  }

  /** Read a reply to its end, as a Blob; null where it was stopped. */
  async get(name, ask) {
    const row = new Row(name, null, "down");
    this.element.append(row.element);
    try {
      const reply = await ask(row.signal);
      const size = Number(reply.headers.get("content-length")) || null;
      const parts = [];
      let taken = 0;
      for (const reader = reply.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
        taken += value.length;
        row.at(size ? taken / size : null, taken);
      }
      row.end();
      return new Blob(parts, { type: "application/octet-stream" });
    } catch (error) {
      if (row.isStopped) row.end();
      else row.fail(error instanceof TypeError ? "The connection broke." : error.message);
      return null;
    }
  }
}

class Row {
  isStopped = false;
  #ends = new AbortController();

  constructor(name, size, way) {
    const stop = h("button.ghost", { type: "button", ariaLabel: `Stop ${name}`, onclick: () => this.stop() }, icon("close"));
    this.bar = h("progress", { max: 1, value: 0, ariaLabel: `${way === "up" ? "Upload" : "Download"} of ${name}` });
    this.told = h("span.hint", {}, size === null ? "" : bytes(size));
    this.element = h("li", {}, h("span.name", {}, h("bdi", {}, name)), this.told, this.bar, stop);
  }

  get signal() {
    return this.#ends.signal;
  }

  stop() {
    this.isStopped = true;
    this.#ends.abort();
    this.end();
  }

  at(part, taken = null) {
    if (part === null) this.bar.removeAttribute("value");
    else this.bar.value = part;
    say(this.told, part === null ? bytes(taken) : `${Math.floor(part * 100)} %`);
  }

  end() {
    this.element.remove();
    return false;
  }

  fail(text) {
    const shut = h("button.ghost", { type: "button", ariaLabel: "Take this away", onclick: () => this.element.remove() }, icon("close"));
    fill(this.element, h("p.wrong", { role: "alert" }, h("bdi", {}, this.element.querySelector(".name").textContent), ": ", text), shut);
    return false;
  }
}
