// Terminal text as elements: colours and the like as classes, a lone carriage return begins its line again, and every other control sequence
// is dropped. What comes is in pieces cut anywhere: the beginning of a sequence waits for its end.

import { h } from "../ui.js";

const ESCAPE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])/y;
const UNFINISHED = /^\x1b(?:$|\[[0-9;:?<=>]*[ -/]*$|\][^\x07\x1b]*\x1b?$|[PX^_][^\x1b]*\x1b?$|[ -/]+$)/;
const MOST_WAITING = 4096;
const TEXT = /[^\x00-\x08\x0b-\x1f\x7f\x80-\x9f]+/y;
const LEVELS = [0, 95, 135, 175, 215, 255];

/** Takes pieces of text and makes lines of elements, each with what it is made of: `[[style, text], …]`. */
export class Terminal {
  #style = {};
  #waiting = "";
  #line = []; // the last one, which may go on
  #isRestarting = false; // a carriage return came: what follows on this line takes its place

  /** The lines that `piece` completes, and then the one that is open now. */
  write(piece) {
    const text = this.#waiting + piece;
    const done = [];
    let at = 0;
    this.#waiting = "";
    while (at < text.length) {
      TEXT.lastIndex = at;
      const plain = TEXT.exec(text);
      if (plain) {
        this.#print(plain[0], done);
        at += plain[0].length;
      } else if (text[at] === "\x1b") {
        ESCAPE.lastIndex = at;
        const sequence = ESCAPE.exec(text);
        if (!sequence && text.length - at < MOST_WAITING && UNFINISHED.test(text.slice(at))) {
          this.#waiting = text.slice(at);
          break;
        }
        if (sequence?.[2] === "m") this.#style = restyled(this.#style, sequence[1]);
        at += sequence ? sequence[0].length : 1;
      } else {
        if (text[at] === "\r") this.#return(text, at);
        at += 1;
      }
    }
    return { done, open: this.#line };
  }

  #return(text, at) {
    if (at + 1 === text.length) this.#isRestarting = true; // a line end may be on its way: then nothing is lost, see #print
    else if (text[at + 1] !== "\n") this.#isRestarting = true;
  }

  #print(text, done) {
    const lines = text.split("\n");
    lines.forEach((part, number) => {
      if (number > 0) {
        done.push(this.#line);
        this.#line = [];
        this.#isRestarting = false;
      }
      if (!part) return;
      if (this.#isRestarting) this.#line = [];
      this.#isRestarting = false;
      this.#line.push([this.#style, part]);
    });
  }
}

/** A line's element. */
export function lineElement(parts) {
  return h("span.line", {}, parts.map(([style, text]) => styled(style, text)), "\n");
}

function styled(style, text) {
  const names = ["bold", "dim", "italic", "under", "struck"].filter((each) => style[each]);
  let { ink, paper } = style;
  if (style.inverse) [ink, paper] = [paper ?? "paper", ink ?? "ink"];
  if (typeof ink === "string") names.push(`c-${ink}`);
  if (typeof paper === "string") names.push(`on-${paper}`);
  if (!names.length && !ink && !paper) return text;
  const element = h("span", { className: names.map((each) => `a-${each}`).join(" ") }, text);
  if (Array.isArray(ink)) element.style.color = `rgb(${ink})`;
  if (Array.isArray(paper)) element.style.backgroundColor = `rgb(${paper})`;
  return element;
}

const PLAIN = {
  1: { bold: true }, 2: { dim: true }, 3: { italic: true }, 4: { under: true }, 7: { inverse: true }, 9: { struck: true },
  22: { bold: false, dim: false }, 23: { italic: false }, 24: { under: false }, 27: { inverse: false }, 29: { struck: false },
  39: { ink: undefined }, 49: { paper: undefined },
};

/** After a "select graphic rendition" (ECMA-48 §8.3.117, with xterm's colours). */
function restyled(style, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let next = { ...style };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (!code) next = {};
    else if (PLAIN[code]) Object.assign(next, PLAIN[code]);
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes, at + 1);
      next[code === 38 ? "ink" : "paper"] = colour;
      at += used;
    } else if (code >= 30 && code <= 37) next.ink = String(code - 30);
    else if (code >= 90 && code <= 97) next.ink = String(code - 90 + 8);
    else if (code >= 40 && code <= 47) next.paper = String(code - 40);
    else if (code >= 100 && code <= 107) next.paper = String(code - 100 + 8);
  }
  return next;
}

function extended(codes, at) {
  const byte = (value) => Math.min(255, Math.max(0, Math.trunc(value) || 0));
  if (codes[at] === 2) return [[byte(codes[at + 1]), byte(codes[at + 2]), byte(codes[at + 3])], 4];
  if (codes[at] !== 5) return [undefined, 0];
  const number = byte(codes[at + 1]);
  if (number < 16) return [String(number), 2];
  if (number >= 232) return [Array(3).fill(8 + 10 * (number - 232)), 2];
  const cube = number - 16;
  return [[LEVELS[Math.floor(cube / 36)], LEVELS[Math.floor(cube / 6) % 6], LEVELS[cube % 6]], 2];
}
