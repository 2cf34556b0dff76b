// The session's files: a folder at a time, what can be done with each, and files dropped anywhere on the page.

import { Fault, serverNow } from "../api.js";
import { ago, bytes, moment } from "../words.js";
import { confirm, dialog, fill, h, icon, toast } from "../ui.js";
import { saveBlob } from "./outputs.js";
import { Transfers } from "./transfers.js";

const AT_ONCE = 200;

export class Files {
  isShown = false;
  #directory = "";
  #isDue = true;
  #asked = 0;
  #transfers = new Transfers();

  constructor(live) {
    this.live = live;
    this.crumbs = h("nav.crumbs", { ariaLabel: "Folder" });
    this.list = h("div.list");
    const pick = h("input.unseen", { type: "file", multiple: true, tabIndex: -1, ariaLabel: "Files to upload" });
    pick.addEventListener("change", () => {
      this.upload([...pick.files]);
      pick.value = "";
    });
    this.element = h("div.files", {},
      h("div.strip", {}, this.crumbs,
        h("button.quiet.small", { type: "button", onclick: () => pick.click() }, icon("upload"), "Upload"), pick,
        h("button.ghost", { type: "button", ariaLabel: "New folder", title: "New folder", onclick: () => this.#makeFolder() }, icon("folder")),
        h("button.ghost", { type: "button", ariaLabel: "Look again", title: "Look again", onclick: () => this.refresh() }, icon("again"))),
      this.#transfers.element, this.list, h("p.hint.drop", {}, "Files can be dropped anywhere on this page."));
    this.#crumbs();
  }

  show() {
    this.isShown = true;
    if (this.#isDue) this.refresh();
  }

  hide() {
    this.isShown = false;
  }

  /** Where somebody sees it; else the next time that somebody does. */
  async refresh() {
    this.#isDue = true;
    if (!this.isShown) return;
    if (this.live.state !== "live") return this.#none("There is no session yet: a file that is uploaded begins one.");
    this.#isDue = false;
    const turn = ++this.#asked;
    try {
      const { value } = await this.live.ask("GET", "files", { query: { path: this.#directory || undefined } });
      if (turn === this.#asked) this.#draw(value);
    } catch (error) {
      if (turn !== this.#asked) return;
      this.#isDue = true;
      if (error instanceof Fault && error.status === 404 && this.#directory) return this.#go("");
      this.#none(error.message);
    }
    return undefined;
  }

  /** `files` is a list of File. */
  async upload(files) {
    const directory = this.#directory;
    for (const file of files) this.#transfers.put(this.live, directory, file, (name) => this.#replacing(directory, name)).then((isDone) => isDone && this.#changed());
  }

  /** Makes all of an element a place to drop files on; what is dropped must never make the browser leave the page. */
  takeDrops(root) {
    let depth = 0;
    const has = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (change) => root.classList.toggle("dropping", (depth = Math.max(0, depth + change)) > 0);
    root.addEventListener("dragenter", (event) => has(event) && mark(1));
    root.addEventListener("dragleave", (event) => has(event) && mark(-1));
    root.addEventListener("dragover", (event) => has(event) && event.preventDefault());
    root.addEventListener("drop", (event) => {
      if (!has(event)) return;
      event.preventDefault();
      mark(-Infinity);
      const entries = [...event.dataTransfer.items].map((each) => each.webkitGetAsEntry?.());
      const files = [...event.dataTransfer.files].filter((_, at) => !entries[at]?.isDirectory);
      if (files.length < event.dataTransfer.files.length) toast("A folder cannot be dropped: drop its files.", { kind: "wrong" });
      this.upload(files);
    });
  }

  async #changed() {
    if (this.live.state !== "live") await this.live.look();
    await this.refresh();
  }

  #go(directory) {
    this.#directory = directory;
    this.#crumbs();
    return this.refresh();
  }

  #crumbs() {
    const parts = this.#directory ? this.#directory.split("/") : [];
    const crumb = (name, path, isLast) =>
      h("button.crumb", { type: "button", onclick: () => this.#go(path), ariaCurrent: isLast ? "true" : undefined }, h("bdi", {}, name));
    fill(this.crumbs, crumb("/mnt/data", "", !parts.length), parts.map((name, at) => ["/", crumb(name, parts.slice(0, at + 1).join("/"), at === parts.length - 1)]));
  }

  #draw(found, most = AT_ONCE) {
    const isFolder = (each) => each.type.toLowerCase() === "directory";
    const sorted = [...found].sort((one, other) => isFolder(other) - isFolder(one) || one.name.localeCompare(other.name));
    if (!sorted.length) return this.#none(this.#directory ? "This folder is empty." : "No files yet.");
    const more = sorted.length > most ? h("button.quiet.small", { type: "button", onclick: () => this.#draw(found, most + AT_ONCE) }, `${sorted.length - most} more`) : null;
    return fill(this.list, h("ul", { ariaLabel: "Files" }, sorted.slice(0, most).map((each) => this.#row(each, isFolder(each)))), more);
  }

  #row(file, isFolder) {
    const name = h("bdi", {}, file.name);
    const path = this.#directory ? `${this.#directory}/${file.name}` : file.name;
    const act = (label, picture, work) => h("button.ghost", { type: "button", ariaLabel: `${label} ${file.name}`, title: label, onclick: work }, icon(picture));
    const told = isFolder ? "" : `${bytes(file.sizeInBytes)} · ${ago(file.lastModifiedAt, serverNow())} ago`;
    return h("li", {},
      icon(isFolder ? "folder" : "file"),
      isFolder ? h("button.name", { type: "button", onclick: () => this.#go(path) }, name) : h("button.name", { type: "button", title: `Download ${file.name}`, onclick: () => this.#download(file) }, name),
      h("span.hint", { title: moment(file.lastModifiedAt) }, told),
      h("span.acts", {},
        act("Download", "down", () => (isFolder ? this.#downloadFolder(path, file.name) : this.#download(file))),
        act("Rename", "pen", () => this.#rename(file)),
        act("Delete", "bin", () => this.#delete(file, isFolder))));
  }

  #none(text) {
    fill(this.list, h("p.none", {}, text));
  }

  // What is done with one

  #ask(method, name, verb = "", options = {}) {
    return this.live.ask(method, `files/${encodeURIComponent(name)}${verb}`, { ...options, query: { path: this.#directory || undefined } });
  }

  async #download(file) {
    const blob = await this.#transfers.get(file.name, (signal) => this.#ask("GET", file.name, "/content", { raw: true, signal, headers: { Accept: "*/*" } }));
    if (blob) saveBlob(blob, file.name);
  }

  async #downloadFolder(path, name) {
    const ask = (signal) => this.live.ask("GET", "files", { query: { path }, raw: true, signal, headers: { Accept: "application/x-tar" } });
    const blob = await this.#transfers.get(`${name}.tar`, ask);
    if (blob) saveBlob(blob, `${name}.tar`);
  }

  /** The tag of what is there now: a change of it that nobody has seen is not overwritten. */
  async #tag(directory, name) {
    const reply = await this.live.ask("GET", `files/${encodeURIComponent(name)}`, { query: { path: directory || undefined }, raw: true });
    return { tag: reply.headers.get("etag"), file: await reply.json() };
  }

  async #replacing(directory, name) {
    const { tag, file } = await this.#tag(directory, name);
    const text = `There is a file “${name}” of ${bytes(file.sizeInBytes)}, changed ${ago(file.lastModifiedAt, serverNow())} ago.`;
    return (await confirm("Replace the file?", text, "Replace")) ? { "If-Match": tag } : null;
  }

  async #delete(file, isFolder) {
    const what = isFolder ? `The folder “${file.name}” and everything in it.` : `The file “${file.name}” of ${bytes(file.sizeInBytes)}.`;
    const { tag } = await this.#tried(() => this.#tag(this.#directory, file.name));
    if (!tag || !(await confirm("Delete?", what, "Delete"))) return;
    await this.#tried(() => this.#ask("DELETE", file.name, "", { headers: { "If-Match": tag } }));
    await this.refresh();
  }

  async #rename(file) {
    const { tag } = await this.#tried(() => this.#tag(this.#directory, file.name));
    if (!tag) return;
    const to = await named("Rename", "New name", file.name, "Rename");
    if (!to || to === file.name) return;
    const path = this.#directory && !to.startsWith("/") ? `${this.#directory}/${to}` : to;
    await this.#tried(() => this.#ask("POST", file.name, "/rename", { body: { to: path.replace(/^\/(?:mnt\/data\/)?/, "") }, headers: { "If-Match": tag } }));
    await this.refresh();
  }

  async #makeFolder() {
    const name = await named("New folder", "Name", "", "Make it");
    if (!name) return;
    await this.#tried(() => this.#ask("POST", name, "/mkdir"));
    await this.#changed();
  }

  async #tried(work) {
    try {
      return (await work()) ?? {};
    } catch (error) {
      const isConflict = error instanceof Fault && error.status === 412;
      toast(isConflict ? "It has changed meanwhile, so nothing was done. Look at it, then try again." : error.message, { kind: "wrong" });
      if (isConflict) await this.refresh();
      return {};
    }
  }
}

/** Ask for a name. */
function named(title, label, before, verb) {
  const field = h("input", { id: "file-name", value: before, required: true, maxLength: 1000, autocomplete: "off", spellcheck: false, autofocus: true });
  return dialog(title, (close) => {
    const form = h("form.body", { method: "dialog" }, h("label", { htmlFor: "file-name" }, label), field, h("footer", {}, h("button.primary", {}, verb)));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      close(field.value.trim());
    });
    return form;
  }, { kind: "narrow" });
}
