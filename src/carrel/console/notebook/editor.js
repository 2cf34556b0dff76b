// An editor: a plain text area, which is what keyboards, screen readers, phones and undo know how to deal with, over the same text in colours.
//
// Both layers have the same box, font and wrapping, so a character is in the same place in each; the lower one is tall as its text and
// makes the upper one as tall. Changes that a key makes go through `insertText`, as typing does, so that undo takes them back.

import { fill, h } from "../ui.js";
import { tokens } from "./tokens.js";

const INDENT = { python: "    ", javascript: "  ", bash: "  " };

/** `label` names it, `hint` is the id of what describes its keys. `oninput(text)` hears of each change. */
export function editor({ text = "", language = "python", label, hint, oninput = () => {} }) {
  const layer = h("pre.layer", { ariaHidden: "true" });
  const area = h("textarea.code", {
    value: text, spellcheck: false, autocomplete: "off", rows: 1, wrap: "soft", ariaLabel: label, ariaDescribedby: hint,
    oninput: () => {
      draw();
      oninput(area.value);
    },
    onkeydown: (event) => press(event),
    onblur: () => (isLeaving = false),
  });
  area.setAttribute("autocapitalize", "off");
  area.setAttribute("autocorrect", "off");
  let isLeaving = false; // Escape was pressed: Tab goes on to what is next, as everywhere else
  let kind = language;

  function draw() {
    const pieces = tokens(kind, area.value).map(([name, piece]) => (name ? h(`span.t-${name}`, {}, piece) : piece));
    fill(layer, pieces, "\n");
  }

  function press(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") isLeaving = true;
    else if (event.key === "Tab" && !isLeaving && !event.ctrlKey && !event.altKey && !event.metaKey) indent(event);
    else if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.altKey) newLine(event);
    else if (event.key !== "Shift" && event.key !== "Tab") isLeaving = false;
  }

  /** A step in, or with Shift out: of the line, or of all lines of a selection. */
  function indent(event) {
    const { selectionStart: start, selectionEnd: end, value } = area;
    const step = INDENT[kind] ?? "  ";
    event.preventDefault();
    if (start === end && !event.shiftKey) return insert(step.slice((start - lineStart(value, start)) % step.length));
    const first = lineStart(value, start);
    const last = start !== end && value[end - 1] === "\n" ? end - 1 : end;
    const whole = value.slice(first, last);
    const changed = whole.split("\n").map((line) => (event.shiftKey ? outdented(line, step) : line && step + line)).join("\n");
    if (changed === whole) return;
    area.setSelectionRange(first, last);
    insert(changed);
    if (start === end) area.setSelectionRange(Math.max(first, start + changed.length - whole.length), Math.max(first, start + changed.length - whole.length));
    else area.setSelectionRange(first, first + changed.length);
  }

  /** As deep as the line before, and deeper after what opens a block. */
  function newLine(event) {
    const { selectionStart: start, value } = area;
    const line = value.slice(lineStart(value, start), start);
    const depth = /^[ \t]*/.exec(line)[0];
    const opens = (kind === "python" && /:\s*$/.test(line)) || (kind !== "python" && /[{([]\s*$/.test(line));
    if (!depth && !opens) return;
    event.preventDefault();
    insert(`\n${depth}${opens ? INDENT[kind] ?? "  " : ""}`);
  }

  /** As typing does it, which undo knows. */
  function insert(text) {
    if (!document.execCommand("insertText", false, text)) area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    draw();
    oninput(area.value);
  }

  draw();
  return {
    element: h("div.editor", {}, layer, area),
    area,
    get text() {
      return area.value;
    },
    setLanguage(name) {
      kind = name;
      draw();
    },
    setText(text) {
      area.value = text;
      draw();
    },
    focus: () => area.focus(),
    setLabel: (name) => area.setAttribute("aria-label", name),
  };
}

const lineStart = (text, at) => text.lastIndexOf("\n", at - 1) + 1;

function outdented(line, step) {
  if (line.startsWith("\t")) return line.slice(1);
  return line.slice(Math.min(step.length, /^ */.exec(line)[0].length));
}
