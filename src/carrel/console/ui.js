// Small means of making a page: elements, icons, dialogs, passing notices. Text is always text: nothing here makes markup of it.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("button.primary", {onclick, ariaLabel: "…"}, "Text", child)`. Names with on… are listeners, `dataset` and `ref` are themselves. */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  if (isChild(properties)) [properties, children] = [{}, [properties, ...children]];
  for (const [key, value] of Object.entries(properties)) put(element, key, value);
  element.append(...flat(children));
  return element;
}

/** An element of a drawing; its properties are attributes. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...flat(children));
  return element;
}

function isChild(value) {
  return value === null || typeof value !== "object" || value instanceof Node || Array.isArray(value);
}

function flat(children) {
  return children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
}

function put(element, key, value) {
  if (value === undefined || value === null) return;
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "dataset") Object.assign(element.dataset, value);
  else if (key.startsWith("aria") && key.length > 4) element.setAttribute("aria-" + key.slice(4).toLowerCase(), String(value));
  else if (key in element && key !== "list" && key !== "form") element[key] = value;
  else if (value === true) element.setAttribute(key, "");
  else if (value !== false) element.setAttribute(key, String(value));
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/** Set an element's text where it is another one, so that what did not change is not announced or repainted. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const ICONS = {
  close: "M5 5l10 10M15 5L5 15",
  plus: "M10 4v12M4 10h12",
  sun: "M10 6.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7M10 2v1.6M10 16.4V18M2 10h1.6M16.4 10H18M4.3 4.3l1.2 1.2M14.5 14.5l1.2 1.2M4.3 15.7l1.2-1.2M14.5 5.5l1.2-1.2",
  moon: "M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7z",
  auto: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  pen: "M4 16l1-4L13.5 3.5l3 3L8 15z",
  bin: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
  search: "M9 4a5 5 0 1 0 0 10A5 5 0 1 0 9 4M13 13l4 4",
  stop: "M6 6h8v8H6z",
  open: "M8 5H5v10h10v-3M11 4h5v5M16 4l-7 7",
  down: "M10 4v9M6 9.5l4 4 4-4M4 16.5h12",
  out: "M12 5V4H4v12h8v-1M9 10h8M14 7l3 3-3 3",
  play: "M7 4.5l8 5.5-8 5.5z",
  up: "M10 15V5M6 9l4-4 4 4",
  below: "M10 5v10M6 11l4 4 4-4",
  upload: "M10 13V4M6 7.5L10 3.5l4 4M4 16.5h12",
  folder: "M3 15.5v-10h4.5l1.5 2h8v8z",
  file: "M5.5 3.5h6l3 3v10h-9zM11.5 3.5v3h3",
  again: "M15.5 7A6 6 0 1 0 16 10M16 3.5V7h-3.5",
  clock: "M10 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M10 7v3.7l2.4 1.5",
  warn: "M10 4l7 12H3zM10 8.5v3.5M10 14v.3",
};

export function icon(name) {
  const path = svg("path", { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round" });
  return svg("svg", { viewBox: "0 0 20 20", width: 18, height: 18, "aria-hidden": "true", class: "icon" }, path);
}

/** A modal dialog: traps focus, closes on Escape, gives focus back. `build(close)` returns its body; the promise has what `close` was given. */
export function dialog(title, build, { kind = "" } = {}) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const heading = h("h2", { id: "dialog-title" }, title);
    const box = h("dialog", { className: `dialog ${kind}`, ariaLabelledby: "dialog-title" });
    const close = (value) => {
      box.returnedValue = value;
      box.close();
    };
    const shut = h("button.ghost.shut", { type: "button", ariaLabel: "Close", onclick: () => close(undefined) }, icon("close"));
    box.append(h("header", {}, heading, shut), build(close));
    box.addEventListener("close", () => {
      box.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(box.returnedValue);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Ask before something that cannot be taken back. */
export function confirm(title, text, verb, { danger = true } = {}) {
  return dialog(title, (close) =>
    h("div.body", {},
      typeof text === "string" ? h("p", {}, text) : text,
      h("footer", {},
        h("button.quiet", { type: "button", onclick: () => close(false) }, "Keep"),
        h("button", { type: "button", className: danger ? "danger" : "primary", autofocus: true, onclick: () => close(true) }, verb),
      ),
    ),
  { kind: "narrow" }).then(Boolean);
}

/** A notice that passes; it is read out, and takes no focus. */
export function toast(text, { kind = "" } = {}) {
  const line = h("p", { className: `toast ${kind}` }, text);
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), kind === "wrong" ? 9000 : 5000);
}

let numbers = 0;

/** A name for an element that another one points to. */
export function unique(prefix) {
  return `${prefix}-${++numbers}`;
}
