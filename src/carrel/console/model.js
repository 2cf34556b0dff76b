// Pools as the control plane tells of them, and what their settings mean in plain words.

import { all, call } from "./api.js";

let subscription = null;

/** The server's one subscription. */
export async function home(signal) {
  subscription ??= (await call("arm", "GET", "/subscriptions", { signal }))?.value?.[0]?.subscriptionId ?? null;
  if (!subscription) throw new Error("Nothing of this server is shown to you: you have no role on it.");
  return subscription;
}

/** Every pool that may be read, by name. */
export async function pools(signal) {
  const path = `/subscriptions/${encodeURIComponent(await home(signal))}/providers/Microsoft.App/sessionPools`;
  const found = await all("arm", path, { signal });
  return found.map(poolOf).sort((one, other) => one.name.localeCompare(other.name) || one.group.localeCompare(other.group));
}

/** Of a resource: what pages need by short names. `path` is its endpoint on the data plane, `id` its place on the control plane. */
export function poolOf(resource) {
  const { properties } = resource;
  const group = /\/resourceGroups\/([^/]+)/i.exec(resource.id)?.[1] ?? "";
  return {
    id: resource.id,
    name: resource.name,
    group,
    etag: resource.etag,
    tags: resource.tags ?? {},
    location: resource.location,
    path: new URL(properties.poolManagementEndpoint, location.origin).pathname,
    state: properties.provisioningState,
    type: properties.containerType,
    maximum: properties.scaleConfiguration?.maxConcurrentSessions ?? null,
    ready: properties.scaleConfiguration?.readySessionInstances ?? null,
    cooldown: properties.dynamicPoolConfiguration?.lifecycleConfiguration?.cooldownPeriodInSeconds ?? null,
    network: properties.sessionNetworkConfiguration?.status ?? "EgressDisabled",
    hasMcp: Boolean(properties.mcpServerSettings?.isMcpServerEnabled),
    level: properties.carrel?.level ?? null,
    error: properties.carrel?.error ?? null,
    carrel: properties.carrel ?? {},
  };
}

/** Whether it is the pool of these words of an address, in any case. */
export const isNamed = (one, { group, pool }) => one.group.toLowerCase() === group.toLowerCase() && one.name.toLowerCase() === pool.toLowerCase();

export const status = (pool, signal) => call("data", "GET", `${pool.path}/.carrel/status`, { signal });
export const sessionsHref = (pool) => `#/sessions/${encodeURIComponent(pool.group)}/${encodeURIComponent(pool.name)}`;
export const logsHref = (pool) => `#/logs/${encodeURIComponent(pool.group)}/${encodeURIComponent(pool.name)}`;
export const sessionHref = (pool, identifier) =>
  `#/session/${encodeURIComponent(pool.group)}/${encodeURIComponent(pool.name)}/${encodeURIComponent(identifier)}`;

const RUNTIMES = { PythonLTS: "Python", NodeLTS: "JavaScript", Shell: "Shell" };
export const runtime = (type) => RUNTIMES[type] ?? type;

// docs/concepts/isolation.md says the whole of it.
const LEVELS = {
  process: ["No boundary", "Code runs as an ordinary process of this machine. For development alone."],
  restricted: ["Restricted", "Code may touch its own files only and few system calls; it shares the machine’s processes and network names."],
  namespace: ["Namespaces", "Code has a system of its own by the kernel’s namespaces, with limits. The kernel itself is shared."],
  gvisor: ["gVisor", "Code talks to a kernel of its own in user space. For tenants that do not trust each other."],
  microvm: ["Virtual machine", "Code has a virtual machine of its own. For hostile tenants."],
};

export function isolation(level) {
  const [name, meaning] = LEVELS[level] ?? ["Not known yet", "The first sandbox of this pool is still being made."];
  return { name, meaning, isWeak: level === "process" || level === "restricted" };
}

export function egress(pool) {
  const allow = pool.carrel.egress?.allow;
  if (pool.network !== "EgressEnabled") return "No network";
  if (!allow) return "The public internet";
  return allow.length ? `Only ${allow.slice(0, 3).join(", ")}${allow.length > 3 ? ` and ${allow.length - 3} more` : ""}` : "An empty list: nothing";
}
