// The shell: who is signed in decides between the sign-in page and the others, and the part of the address after # which of those.
//
// A page is a module with `title(params)` and `mount(root, params)`; what `mount` returns is called when the page is left. It gets an empty
// element, and has the keyboard's focus on its heading.

import * as auth from "./auth.js";
import { line } from "./api.js";
import { logo, themeButton } from "./brand.js";
import { fill, h, icon, toast } from "./ui.js";
import * as health from "./pages/health.js";
import * as logs from "./pages/logs.js";
import * as pools from "./pages/pools.js";
import * as session from "./pages/session.js";
import * as sessions from "./pages/sessions.js";
import * as signin from "./pages/signin.js";
import * as usage from "./pages/usage.js";

// `#/sessions/GROUP/POOL` is the first pattern that fits; parts are percent-encoded.
const ROUTES = [
  ["pools", pools, "Pools"],
  ["sessions", sessions, "Sessions"],
  ["sessions/:group/:pool", sessions],
  ["logs/:group/:pool", logs],
  ["usage", usage, "Usage"],
  ["session/:group/:pool/:identifier", session],
  ["health", health, "Health"],
];
const PARENTS = { logs: "pools", session: "sessions" }; // whose link says where one is

const app = document.getElementById("app");
const main = h("main", { id: "main", tabIndex: -1 });
const banner = h("div.banner", { role: "alert", hidden: true });
let leave = () => {};
let shown = "";

function start() {
  line.addEventListener("down", away);
  line.addEventListener("up", back);
  auth.onChange((reason) => {
    shown = "";
    show(reason);
  });
  window.addEventListener("hashchange", () => show());
  show();
}

function show(reason = "") {
  if (!auth.isSignedIn()) return signInPage(reason);
  const found = match(location.hash.replace(/^#\/?/, ""));
  if (!found) return location.replace("#/pools");
  if (shown === location.hash) return;
  shown = location.hash;
  const [page, params, section] = found;
  if (!app.querySelector(".top")) fill(app, top(), banner, main);
  for (const link of app.querySelectorAll("nav a")) mark(link, section);
  turnTo(page, params);
}

function signInPage(reason) {
  fill(app, banner, main);
  turnTo(signin, { reason });
}

function turnTo(page, params) {
  leave();
  document.title = `${page.title(params)} · Carrel`;
  main.className = "";
  fill(main);
  leave = page.mount(main, params) ?? (() => {});
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function match(hash) {
  const given = hash.split("?")[0].split("/");
  for (const [pattern, page] of ROUTES) {
    const parts = pattern.split("/");
    if (parts.length !== given.length) continue;
    if (!parts.every((part, at) => (part.startsWith(":") ? given[at] : part === given[at]))) continue;
    try {
      const named = parts.flatMap((part, at) => (part.startsWith(":") ? [[part.slice(1), decodeURIComponent(given[at])]] : []));
      return [page, Object.fromEntries(named), parts[0] === "session" ? "sessions" : parts[0]];
    } catch {
      return null; // percent signs that encode nothing
    }
  }
  return null;
}

function mark(link, section) {
  if (link.dataset.section === (PARENTS[section] ?? section)) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function top() {
  const links = ROUTES.filter(([, , label]) => label).map(([pattern, , label]) =>
    h("a", { href: `#/${pattern}`, dataset: { section: pattern } }, label),
  );
  return h("header.top", {},
    h("a.brand", { href: "#/pools", ariaLabel: "Carrel, to the pools" }, logo(), h("span", {}, "Carrel")),
    h("nav", { ariaLabel: "Pages" }, links),
    h("div.person", {}, themeButton(), h("span.who", { title: auth.who() }, auth.who()), h("button.quiet", { type: "button", onclick: signOut }, icon("out"), h("span", {}, "Sign out"))),
  );
}

async function signOut() {
  await auth.signOut();
  location.hash = "#/pools";
}

function away() {
  fill(banner, icon("warn"), h("span", {}, "Carrel does not answer. What you see is what it last said; this page goes on by itself once it is back."));
  banner.hidden = false;
}

function back() {
  banner.hidden = true;
  toast("Carrel is back.");
}

start();
