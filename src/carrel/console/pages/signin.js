// Signing in: by the device page, with an application's secret, or with tokens from elsewhere.

import { SignInFault, beginDevice, signInWithSecret, signInWithTokens } from "../auth.js";
import { logo, themeButton } from "../brand.js";
import { fill, h, icon } from "../ui.js";

export const title = () => "Sign in";

export function mount(root, { reason }) {
  const ends = new AbortController();
  root.className = "door";
  const trouble = h("p.wrong", { role: "alert", hidden: true });
  const tell = (text) => {
    trouble.textContent = text;
    trouble.hidden = !text;
  };
  const device = h("section.device");
  offer(device, tell, ends.signal);
  fill(root,
    h("div.plate", {},
      h("div.corner", {}, h("div.brand.large", {}, logo(), h("span", {}, "Carrel")), themeButton()),
      h("h1", {}, "Sign in"),
      h("p.lead", {}, "Pools, sessions and health of this server."),
      reason && h("p.note", { role: "status" }, reason),
      trouble,
      device,
      otherWays(tell),
    ),
  );
  return () => ends.abort();
}

function offer(device, tell, signal) {
  const begin = h("button.primary.wide", { type: "button" }, "Sign in");
  begin.addEventListener("click", async () => {
    tell("");
    begin.disabled = true;
    try {
      const begun = await beginDevice(signal);
      waiting(device, begun);
      window.open(begun.page, "_blank", "noopener"); // which gets no copy of this tab's storage; where no window opens, the link does it
      await begun.finished;
    } catch (error) {
      if (signal.aborted) return;
      tell(error instanceof SignInFault ? error.message : String(error));
      offer(device, tell, signal);
      device.querySelector("button").focus();
    }
  });
  fill(device, begin, h("p.hint", {}, "With your user name and password, on the server’s own page."));
}

function waiting(device, { code, page }) {
  const link = h("a.button.primary.wide", { href: page, target: "_blank", rel: "noopener" }, "Open the page ", icon("open"));
  fill(device,
    h("p", {}, "Approve this sign-in on the page that has opened. It shows this code:"),
    h("output.code", { ariaLabel: `Code ${[...code].join(" ")}` }, code),
    link,
    h("p.hint.busy", { role: "status" }, "Waiting for you to approve…"),
  );
  link.focus();
}

function otherWays(tell) {
  const client = h("input", { id: "client", name: "client", autocomplete: "username", spellcheck: false, required: true, maxLength: 200 });
  const given = h("input", { id: "secret", name: "secret", type: "password", autocomplete: "current-password", required: true, maxLength: 1024 });
  const tokens = h("textarea", { id: "tokens", name: "tokens", rows: 3, autocomplete: "off", spellcheck: false, required: true, maxLength: 60_000 });
  return h("details.ways", {},
    h("summary", {}, "Other ways"),
    form("As an application", tell, async () => signInWithSecret(client.value.trim(), given.value),
      h("label", { htmlFor: "client" }, "Client id"), client,
      h("label", { htmlFor: "secret" }, "Client secret"), given,
      h("p.hint", {}, "The secret stays in this page’s memory and is gone with it.")),
    form("With tokens", tell, async () => signInWithTokens(tokens.value),
      h("label", { htmlFor: "tokens" }, "Tokens"), tokens,
      h("p.hint", {}, "What ", h("code", {}, "carrel console --tokens"), " prints, or one of ", h("code", {}, "carrel token"), " for each audience, in any order.")),
  );
}

function form(name, tell, work, ...fields) {
  const button = h("button.quiet", {}, "Sign in");
  const element = h("form", { ariaLabel: name, noValidate: false }, h("h2", {}, name), fields, button);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    tell("");
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      tell(error instanceof SignInFault ? error.message : String(error));
      button.disabled = false;
    }
  });
  return element;
}
