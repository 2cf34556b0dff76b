// Making and changing a pool: a form over the resource's own properties. What is right is the server's to say: whatever was typed is sent,
// and its answer stands at the field that the answer's `target` names.

import { Fault, all, call } from "./api.js";
import { home } from "./model.js";
import { dialog, fill, h, toast, unique } from "./ui.js";

const COOLDOWN = "dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds";
const ALLOW = "carrel.egress.allow";
const LEVELS = [["", "As the server’s settings say"], ["auto", "auto: the strongest there is, of the quick ones"], ["namespace", "namespace"], ["gvisor", "gvisor"], ["restricted", "restricted"], ["process", "process: no boundary"]];
const LOGS = [["", "Off"], ["metadata", "Who, when, how long, outcome"], ["code", "and the code"], ["full", "and the output"]];

// The path below `properties`, its label, a hint, and what it is entered with. Empty means: as it is by default.
const FIELDS = [
  ["scaleConfiguration.maxConcurrentSessions", "Sessions at most", "10 by default", number],
  ["scaleConfiguration.readySessionInstances", "Kept ready", "2 by default", number],
  [COOLDOWN, "Idle seconds", "until a session ends", number],
  ["carrel.memory", "Memory", "such as 1GiB; files count", words],
  ["carrel.cpu", "Processors", "such as 1 or 0.5", number],
  ["carrel.disk", "Disk", "of /mnt/data, such as 512MiB", words],
];

/** Both are true where something was changed. */
export const newPool = () => dialog("New pool", (close) => new Form(null, close).element).then(Boolean);
export const editPool = (pool) => dialog(`Edit ${pool.name}`, (close) => new Form(pool, close).element).then(Boolean);

class Form {
  constructor(pool, close) {
    this.pool = pool;
    this.close = close;
    this.fields = new Map();
    this.trouble = h("p.wrong", { role: "alert", hidden: true });
    this.submit = h("button.primary", {}, pool ? "Save" : "Create");
    this.element = this.#build();
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  #build() {
    const { carrel = {}, network } = this.pool ?? {};
    const allow = carrel.egress?.allow;
    const reach = network === "EgressEnabled" ? (allow ? "list" : "open") : "none";
    this.reach = reach;
    const hosts = this.#field(ALLOW, "Hosts", "One on each line: pypi.org, *.example.org, 10.1.0.0/16:443", lines, (allow ?? []).join("\n"));
    const network_ = h("fieldset", {}, h("legend", {}, "Network"), ["none", "list", "open"].map((each) => this.#choice(each, reach, hosts)), hosts);
    hosts.hidden = reach !== "list";
    return h("form.body.pool", { noValidate: true },
      this.trouble,
      !this.pool && this.#identity(),
      h("div.pair", {}, FIELDS.map(([path, label, hint, kind]) => this.#field(path, label, hint, kind, this.#now(path)))),
      network_,
      h("div.pair", {},
        this.#field("carrel.isolation", "Isolation", "", choice(LEVELS), carrel.isolation ?? ""),
        this.#field("carrel.image", "Image", "the runtime’s own by default", words, carrel.image ?? ""),
        this.#field("carrel.logs.records", "Session logs", "", choice(LOGS), carrel.logs?.records === "off" ? "" : (carrel.logs?.records ?? "")),
        this.#field("mcpServerSettings.isMcpServerEnabled", "MCP endpoint", "", tick, this.pool?.hasMcp ?? false),
      ),
      h("footer", {}, h("button.quiet", { type: "button", onclick: () => this.close(false) }, "Cancel"), this.submit),
    );
  }

  #identity() {
    const group = this.#field("group", "Resource group", "", words, "default");
    const known = h("datalist", { id: unique("groups") });
    group.querySelector("input").setAttribute("list", known.id);
    home().then((id) => all("arm", `/subscriptions/${encodeURIComponent(id)}/resourceGroups`)).then(
      (found) => fill(known, found.map((each) => h("option", { value: each.name }))),
      () => undefined, // no list: the name can be typed
    );
    const kinds = choice([["PythonLTS", "Python"], ["NodeLTS", "JavaScript"], ["Shell", "Shell"]]);
    return h("div.pair", {},
      this.#field("name", "Name", "lower-case letters, digits, hyphens", words, ""),
      this.#field("containerType", "Runtime", "cannot be changed later", kinds, "PythonLTS"),
      group, known,
    );
  }

  /** A label, its control, a hint, and the place for what is wrong with it. */
  #field(path, label, hint, kind, value) {
    const control = kind(value);
    const id = unique("field");
    const note = h("p.hint", { id: `${id}-hint` }, hint);
    const wrong = h("p.fault", { id: `${id}-wrong`, hidden: true });
    Object.assign(control.element, { id, name: path });
    control.element.setAttribute("aria-describedby", hint ? `${note.id} ${wrong.id}` : wrong.id);
    this.fields.set(path, { ...control, was: control.read(), wrong });
    return h("div.field", { className: `field ${kind === tick ? "tick" : ""}` }, h("label", { htmlFor: id }, label), control.element, hint && note, wrong);
  }

  #choice(value, chosen, hosts) {
    const texts = { none: "None", list: "Only these hosts", open: "The public internet" };
    const input = h("input", { type: "radio", name: "reach", value, checked: value === chosen, id: unique("reach") });
    input.addEventListener("change", () => {
      this.reach = value;
      hosts.hidden = value !== "list";
    });
    return h("div.option", {}, input, h("label", { htmlFor: input.id }, texts[value]));
  }

  #now(path) {
    const { pool } = this;
    if (!pool) return "";
    if (path === COOLDOWN) return pool.cooldown ?? "";
    if (path.endsWith("maxConcurrentSessions")) return pool.maximum ?? "";
    if (path.endsWith("readySessionInstances")) return pool.ready ?? "";
    return path.split(".").slice(1).reduce((found, part) => found?.[part], pool.carrel) ?? "";
  }

  async #send() {
    this.#clear();
    this.submit.disabled = true;
    try {
      const name = await (this.pool ? this.#change() : this.#make());
      toast(this.pool ? `Pool ${name} is changed.` : `Pool ${name} is being made.`);
      this.close(true);
    } catch (error) {
      this.#tell(error);
    } finally {
      this.submit.disabled = false;
    }
  }

  async #make() {
    const [name, group] = ["name", "group"].map((each) => this.fields.get(each).read().trim());
    const subscription = await home();
    const root = `/subscriptions/${encodeURIComponent(subscription)}`;
    const here = (await call("arm", "GET", `${root}/locations`)).value[0]?.name; // the server's own comes first
    const path = `${root}/resourceGroups/${encodeURIComponent(group || "default")}/providers/Microsoft.App/sessionPools/${encodeURIComponent(name || " ")}`;
    // Never over a pool that is there: that would be a change that nobody asked for.
    await call("arm", "PUT", path, { body: { location: here, properties: this.#properties(false) }, headers: { "If-None-Match": "*" } });
    return name;
  }

  async #change() {
    const { pool } = this;
    const properties = this.#properties(true);
    if (Object.keys(properties).length) await call("arm", "PATCH", pool.id, { body: { properties }, headers: { "If-Match": pool.etag } });
    return pool.name;
  }

  /** What was entered; of a pool that is there what is another thing than before, null for what is to be the default again. */
  #properties(isChange) {
    const found = {};
    for (const [path, { read, was }] of this.fields) {
      if (path === "name" || path === "group" || path === ALLOW) continue;
      const value = read();
      if (isChange ? value === was : value === "") continue;
      put(found, path, value === "" ? null : value);
    }
    const list = this.fields.get(ALLOW).read();
    const before = this.pool ? [this.pool.network, JSON.stringify(this.pool.carrel.egress?.allow ?? null)] : [];
    const status = this.reach === "none" ? "EgressDisabled" : "EgressEnabled";
    const allow = this.reach === "list" ? list : null;
    if (!isChange || before[0] !== status) put(found, "sessionNetworkConfiguration.status", status);
    if (isChange ? before[1] !== JSON.stringify(allow) : allow) put(found, ALLOW, allow);
    return found;
  }

  #clear() {
    this.trouble.hidden = true;
    for (const { element, wrong } of this.fields.values()) {
      wrong.hidden = true;
      element.removeAttribute("aria-invalid");
    }
  }

  #tell(error) {
    const said = error instanceof Fault && error.details.length ? error.details : [{ target: error.target ?? "", message: error.message }];
    const rest = [];
    let first = null;
    for (const { target, message } of said) {
      const field = this.#at(target);
      if (!field) {
        rest.push(message);
        continue;
      }
      fill(field.wrong, message);
      field.wrong.hidden = false;
      field.element.setAttribute("aria-invalid", "true");
      first ??= field.element;
    }
    const text = error.status === 412 && !this.pool ? "There is a pool of this name already." : rest.join(" ");
    this.trouble.textContent = error.status === 412 && this.pool ? "Somebody has changed this pool meanwhile. Close, look, and try again." : text;
    this.trouble.hidden = !this.trouble.textContent;
    first?.focus();
    if (!first) this.trouble.scrollIntoView({ block: "nearest" });
  }

  /** The field that a target names, itself or what it is a part of. */
  #at(target) {
    const bare = target.replace(/^properties\./, "").replace(/\[\d+\]$/, "");
    return this.fields.get(bare) ?? [...this.fields].find(([path]) => path !== "name" && (bare.startsWith(`${path}.`) || path.startsWith(`${bare}.`)) && bare)?.[1];
  }
}

function put(tree, path, value) {
  const parts = path.split(".");
  const last = parts.pop();
  const place = parts.reduce((found, part) => (found[part] ??= {}), tree);
  place[last] = value;
}

// ---- what a value is entered with ------------------------------------------------------------------------------------------------

function words(value) {
  const element = h("input", { type: "text", value: String(value), autocomplete: "off", spellcheck: false, maxLength: 300 });
  return { element, read: () => element.value.trim() };
}

/** A number where it is one; anything else goes as it was typed, for the server to say what it thinks of it. */
function number(value) {
  const { element, read } = words(value);
  element.inputMode = "decimal";
  return { element, read: () => (/^-?\d+(\.\d+)?$/.test(read()) ? Number(read()) : read()) };
}

function lines(value) {
  const element = h("textarea", { value, rows: 4, spellcheck: false, maxLength: 60_000 });
  return { element, read: () => element.value.split(/[\s,]+/).filter(Boolean) };
}

function tick(value) {
  const element = h("input", { type: "checkbox", checked: Boolean(value) });
  return { element, read: () => element.checked };
}

function choice(options) {
  return (value) => {
    const known = options.some(([each]) => each === value) ? options : [...options, [value, value]];
    const element = h("select", {}, known.map(([each, label]) => h("option", { value: each, selected: each === value }, label)));
    return { element, read: () => element.value };
  };
}
