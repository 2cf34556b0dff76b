// What a cell gave, as it comes: streams of text in the order in which they were written, displays, and the value of the last expression.
//
// Text is gathered and put on the page once a frame, however many events brought it, and the page keeps the end of it: a flood costs what
// a screenful does. Everything a session says is hostile here: it is text, an image of bytes that the browser decodes, or goes to a frame.

import { bytes, count } from "../words.js";
import { fill, h, icon } from "../ui.js";
import { Terminal, lineElement } from "./ansi.js";
import { frame } from "./frame.js";
import { table, tree } from "./tree.js";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const DATA = "application/vnd.dataresource+json";
const MOST_LINES = 2000; // of a stretch of text on the page
const LONGEST_LINE = 20_000;
const MOST_STRETCHES = 400; // of text and displays of one run
const MOST_MARKUP = 2 * 1024 * 1024; // characters that a frame is given
const MOST_IMAGE = 24 * 1024 * 1024; // of base64

export class Outputs {
  #text = null; // the stretch that goes on
  #due = false;
  #texts = new Set(); // plain texts of displays: a value that is one of them has been shown
  #urls = [];
  #stretches = 0;
  #language;
  isEmpty = true;

  constructor(language) {
    this.#language = language;
    this.element = h("div.outputs", { hidden: true });
  }

  clear() {
    this.#flush();
    for (const url of this.#urls) URL.revokeObjectURL(url);
    [this.#text, this.#urls, this.#stretches, this.isEmpty] = [null, [], 0, true];
    this.#texts.clear();
    fill(this.element);
    this.element.hidden = true;
  }

  /** stdout or stderr. */
  write(stream, text) {
    if (!text) return;
    if (this.#text?.stream !== stream) {
      this.#flush();
      this.#text = this.#add((number) => new Stretch(stream, number));
    }
    this.#text?.write(text);
    if (this.#due) return;
    this.#due = true;
    const draw = () => this.#flush();
    if (document.hidden) setTimeout(draw, 250); // no frames are drawn then
    else requestAnimationFrame(draw);
  }

  display(data, metadata = {}) {
    const isText = Object.keys(data).length === 1 && "text/plain" in data;
    if (isText && this.#text?.stream === "stdout" && this.#text.endsWith(data["text/plain"])) return; // printed already
    if (this.#text?.stream === "stdout" && typeof data["text/plain"] === "string") this.#text.takeBack(data["text/plain"]);
    this.#flush();
    this.#text = null;
    if (typeof data["text/plain"] === "string") this.#texts.add(data["text/plain"].trimEnd());
    for (const mime of IMAGES) if (typeof data[mime] === "string") this.#texts.add(compact(data[mime]));
    this.#add((number) => ({ element: this.#drawn(data, metadata, number) }));
  }

  /** The value of the last expression, unless it has been shown as a display. */
  value(value) {
    this.#flush();
    this.#text = null;
    if (value === "" || value === undefined || (value === null && this.#language === "python")) return;
    if (isImage(value)) {
      if (!this.#texts.has(compact(value.base64_data))) this.display({ [`image/${value.format}`]: value.base64_data });
      return;
    }
    if (typeof value === "string" && this.#texts.has(value.trimEnd())) return;
    const shown = value !== null && typeof value === "object" ? tree(value) : plain(String(value));
    this.#add(() => ({ element: h("div.value", {}, shown) }));
  }

  /** A line of ours below what the code gave. */
  note(text, kind = "") {
    this.#flush();
    this.#text = null;
    this.isEmpty = false;
    this.element.hidden = false;
    this.element.append(h("p", { className: `said ${kind}` }, kind === "wrong" ? icon("warn") : null, h("span", {}, text)));
  }

  #add(make) {
    this.isEmpty = false;
    this.element.hidden = false;
    this.#stretches += 1;
    if (this.#stretches > MOST_STRETCHES) {
      if (this.#stretches === MOST_STRETCHES + 1) this.note("More was displayed than this page shows.");
      return null;
    }
    const made = make(this.#stretches);
    this.element.append(made.element);
    return made;
  }

  #flush() {
    this.#due = false;
    this.#text?.draw();
  }

  #drawn(data, metadata, number) {
    const image = IMAGES.find((mime) => typeof data[mime] === "string");
    if (image) return this.#image(image, data, number);
    if (data[DATA]) {
      const drawn = table(data[DATA]);
      if (drawn) return drawn;
    }
    for (const mime of ["text/html", "image/svg+xml"]) if (typeof data[mime] === "string") return markup(mime, data, number);
    const json = Object.keys(data).find((mime) => mime === "application/json" || mime.endsWith("+json"));
    const text = ["text/markdown", "text/latex", "text/plain"].find((mime) => typeof data[mime] === "string");
    if (json && (json === "application/json" || !text)) return tree(data[json]);
    if (text) return plain(data[text]);
    return h("p.said", {}, `Nothing here can show ${Object.keys(data).join(", ").slice(0, 200)}.`);
  }

  #image(mime, data, number) {
    const text = data[mime];
    const described = typeof data["text/plain"] === "string" ? data["text/plain"].slice(0, 200) : `Image ${number}`;
    const content = text.length > MOST_IMAGE ? null : decoded(text);
    if (!content) return h("p.said", {}, `An image of ${bytes(text.length * 0.75)} that cannot be shown.`);
    const url = URL.createObjectURL(new Blob([content], { type: mime }));
    this.#urls.push(url);
    const broken = () => element.replaceWith(h("p.said", {}, "An image that is none."));
    const element = h("figure", {},
      h("img", { src: url, alt: described, decoding: "async", onerror: broken }),
      h("a.save", { href: url, download: `output-${number}.${mime.slice(6).replace("jpeg", "jpg")}` }, icon("down"), "Save"),
    );
    return element;
  }
}

/** Text as it is printed: its last lines. */
class Stretch {
  #terminal = new Terminal();
  #pending = [];
  #open = null;
  #dropped = 0;
  #whole = [];

  constructor(stream, number) {
    this.stream = stream;
    this.lines = h("pre.lines", { tabIndex: 0, role: "region", ariaLabel: `${stream === "stderr" ? "Errors" : "Text"} ${number}` });
    this.above = h("p.said", { hidden: true });
    this.element = h("div", { className: `stretch ${stream}` }, this.above, this.lines);
  }

  write(text) {
    this.#pending.push(text);
    this.#whole.push(text);
  }

  /** Whether it ends with this text as a line or more of its own. */
  endsWith(text) {
    return this.#whole.slice(-3).join("").endsWith(`${text}\n`);
  }

  /** What was printed for those who know no displays, now that what it stands for is shown. */
  takeBack(text) {
    const pending = this.#pending.join("");
    if (!text || !this.endsWith(text)) return;
    if (pending.endsWith(`${text}\n`)) {
      this.#pending = [pending.slice(0, -text.length - 1)];
    } else {
      this.draw();
      for (let lines = text.split("\n").length; lines > 0; lines--) this.lines.lastElementChild?.remove();
    }
    const whole = this.#whole.join("");
    this.#whole = [whole.slice(0, -text.length - 1)];
    this.element.hidden = !this.#whole[0];
  }

  draw() {
    if (!this.#pending.length) return;
    const isAtEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 40;
    const { done, open } = this.#terminal.write(this.#pending.join(""));
    this.#pending = [];
    this.#open?.remove();
    const kept = done.slice(-MOST_LINES);
    this.#dropped += done.length - kept.length;
    this.lines.append(...kept.map((line) => lineElement(cut(line))));
    this.#open = open.length ? lineElement(cut(open)) : null;
    if (this.#open) this.lines.append(this.#open);
    while (this.lines.childElementCount > MOST_LINES) {
      this.lines.firstElementChild.remove();
      this.#dropped += 1;
    }
    if (this.#dropped) this.#tell();
    if (isAtEnd) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #tell() {
    this.above.hidden = false;
    const save = () => saveText(this.#whole.join(""), `${this.stream}.txt`);
    fill(this.above, h("span", {}, `The first ${count(this.#dropped)} lines are not shown here. `), h("button.quiet.small", { type: "button", onclick: save }, "Save all of it"));
  }
}

function cut(line) {
  let left = LONGEST_LINE;
  const found = [];
  for (const [style, text] of line) {
    if (left <= 0) break;
    found.push([style, text.length > left ? `${text.slice(0, left)}… (cut)` : text]);
    left -= text.length;
  }
  return found;
}

function markup(mime, data, number) {
  const text = data[mime];
  const name = mime === "text/html" ? "HTML" : "Drawing";
  if (text.length > MOST_MARKUP) {
    const save = h("button.quiet.small", { type: "button", onclick: () => saveText(text, mime === "text/html" ? "output.html.txt" : "output.svg.txt") }, "Save it");
    return h("p.said", {}, `${name} of ${bytes(text.length)} is more than this page draws. `, save);
  }
  const hasScript = /<script[\s>]/i.test(text);
  return h("div.drawn", {}, frame(mime, text, `${name}, output ${number}`), hasScript && h("p.said", {}, "Scripts in it are not run here."));
}

function plain(text) {
  const terminal = new Terminal();
  const { done, open } = terminal.write(text.slice(0, 400_000));
  const lines = [...done, ...(open.length ? [open] : [])];
  const shown = lines.slice(0, MOST_LINES).map((line) => lineElement(cut(line)));
  return h("pre.lines.plain", { tabIndex: 0, role: "region", ariaLabel: "Value" }, shown, lines.length > MOST_LINES && "…");
}

function isImage(value) {
  return value?.type === "image" && typeof value.base64_data === "string" && IMAGES.includes(`image/${value.format}`);
}

const compact = (base64) => base64.replace(/\s+/g, "");

function decoded(base64) {
  try {
    return Uint8Array.from(atob(compact(base64)), (each) => each.charCodeAt(0));
  } catch {
    return null;
  }
}

export function saveText(text, name) {
  saveBlob(new Blob([text], { type: "application/octet-stream" }), name);
}

/** By a link, which is how a page saves. The browser makes a name of it that it can have. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
