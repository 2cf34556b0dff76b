// Who is signed in, and tokens in their name.
//
// A user signs in with a device code: this console is a public client of the server's authority, which keeps the password to its own page.
// An application signs in with its secret, which stays in this page's memory and is gone with it. Tokens somebody else made can be pasted.
// Tokens are kept in sessionStorage: a tab's own, gone when it closes, and out of reach of every frame that shows what sessions print.

const CLIENT = "b7b1c0de-6c2f-4b0e-9a55-3d1f0c9e7a42"; // server/authority/directory.py
const AUTHORITY = "/organizations/oauth2/v2.0";
const DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const KEY = "carrel.signin";
const EARLY_S = 120; // a token this close to its end is replaced before it is used
const SLOW_S = 5;

/** What a token is for, by plane of the API. The control plane's is first: a sign-in begins with it. */
export const RESOURCES = { arm: "https://management.azure.com", data: "https://dynamicsessions.io", graph: "https://graph.microsoft.com" };
const ALIASES = { "https://management.core.windows.net": "arm", "https://acasessions.io": "data" };

/** A sign-in that did not work, in words for people. */
export class SignInFault extends Error {
  constructor(message, code = "") {
    super(message);
    this.code = code;
  }
}

let kept = read();
let secret = "";
let renewing = Promise.resolve();
const listeners = new Set();
const channel = typeof BroadcastChannel === "function" ? new BroadcastChannel("carrel.signin") : null;

// A duplicated tab begins with a copy of the sign-in, and refresh tokens are good for one use: whoever renews tells the others.
channel?.addEventListener("message", ({ data }) => {
  if (!kept?.refresh || data?.before !== kept.refresh) return;
  if (data.after) keep({ ...kept, refresh: data.after });
  else forget("You signed out in another tab.");
});

export const isSignedIn = () => kept !== null;
export const who = () => kept?.name ?? "";
export const kind = () => kept?.kind ?? "";
export const onChange = (listener) => listeners.add(listener);

/** A token for a plane. Raises SignInFault where there is none to be had, which ends the sign-in. */
export async function token(plane, { isRefused = false } = {}) {
  const found = kept?.tokens[plane];
  if (found && !isRefused && found.until > now() + (canRenew() ? EARLY_S : 0)) return found.token;
  const turn = renewing.then(() => renewed(plane, isRefused ? found?.token : null));
  renewing = turn.catch(() => undefined);
  return turn;
}

function canRenew() {
  return Boolean(kept?.refresh || (kept?.kind === "app" && secret));
}

async function renewed(plane, refused) {
  const found = kept?.tokens[plane];
  if (found && found.token !== refused && found.until > now() + EARLY_S) return found.token;
  if (!kept) throw new SignInFault("Sign in first.");
  if (!canRenew()) {
    if (kept.kind === "token" && !found) throw new SignInFault(`No token for ${RESOURCES[plane]} was given: this page needs one.`, "NoToken");
    if (found && found.token !== refused && found.until > now()) return found.token;
    forget("Your sign-in has ended. Sign in again.");
    throw new SignInFault("Your sign-in has ended.");
  }
  try {
    const fields = await ask("token", grant(plane));
    if (fields.refresh_token) {
      channel?.postMessage({ before: kept.refresh, after: fields.refresh_token });
      kept.refresh = fields.refresh_token;
    }
    kept.tokens[plane] = entry(fields);
    keep(kept);
    return fields.access_token;
  } catch (error) {
    if (error instanceof SignInFault && error.code !== "away") forget("Your sign-in has ended. Sign in again.");
    throw error;
  }
}

function grant(plane) {
  const scope = `${RESOURCES[plane]}/.default`;
  if (kept.refresh) return { grant_type: "refresh_token", client_id: CLIENT, refresh_token: kept.refresh, scope: `${scope} offline_access` };
  return { grant_type: "client_credentials", client_id: kept.client, client_secret: secret, scope };
}

/** Begin to sign a user in: what to show, and `finished`, which waits for the answer. */
export async function beginDevice(signal) {
  const begun = await ask("devicecode", { client_id: CLIENT, scope: `${RESOURCES.arm}/.default openid profile offline_access` });
  const page = `/device?user_code=${encodeURIComponent(begun.user_code)}`;
  return { code: begun.user_code, page, finished: waitFor(begun, signal) };
}

async function waitFor(begun, signal) {
  let interval = begun.interval ?? SLOW_S;
  const end = now() + begun.expires_in;
  while (now() < end) {
    await pause(interval, signal);
    try {
      const fields = await ask("token", { grant_type: DEVICE_GRANT, client_id: CLIENT, device_code: begun.device_code });
      const claims = claimsOf(fields.id_token ?? fields.access_token);
      const name = claims.name || claims.preferred_username || claims.upn || "you";
      return keep({ kind: "user", name, user: claims.preferred_username ?? "", refresh: fields.refresh_token, tokens: { arm: entry(fields) } });
    } catch (error) {
      if (error.code === "slow_down") interval = Math.min(interval + SLOW_S, 3 * SLOW_S);
      else if (error.code !== "authorization_pending" && error.code !== "away") throw error;
    }
  }
  throw new SignInFault("The code has expired. Begin again.");
}

/** For so many seconds, or until the person comes back to this tab: they have answered then, most likely. */
function pause(length, signal) {
  return new Promise((resolve, reject) => {
    const ends = new AbortController();
    const done = () => {
      clearTimeout(timer);
      ends.abort();
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(done, length * 1000);
    const options = { signal: ends.signal };
    document.addEventListener("visibilitychange", () => document.hidden || done(), options);
    window.addEventListener("focus", done, options);
    signal?.addEventListener("abort", done, options);
  });
}

/** Sign an application in. Its tokens for every plane are taken at once: after a reload nothing is left to ask with. */
export async function signInWithSecret(client, given) {
  const tokens = {};
  for (const plane of Object.keys(RESOURCES)) {
    const scope = `${RESOURCES[plane]}/.default`;
    tokens[plane] = entry(await ask("token", { grant_type: "client_credentials", client_id: client, client_secret: given, scope }));
  }
  secret = given;
  const claims = claimsOf(tokens.arm.token);
  keep({ kind: "app", name: claims.app_displayname || client, client, tokens });
}

/** Sign in with tokens from elsewhere: one for each plane that is wanted, in any order. */
export function signInWithTokens(text) {
  const tokens = {};
  let claims = {};
  for (const each of text.split(/\s+/).filter(Boolean)) {
    const bare = each.replace(/^Bearer$/i, "");
    if (!bare) continue;
    claims = claimsOf(bare);
    const plane = planeOf(claims.aud);
    if (!plane) throw new SignInFault("This is no token of a plane of Carrel's: `carrel token` prints one.");
    if (!(claims.exp > now())) throw new SignInFault(`The token for ${RESOURCES[plane]} has expired.`);
    tokens[plane] = { token: bare, until: claims.exp };
  }
  if (!tokens.arm) throw new SignInFault(`A token for the control plane is needed: carrel token --audience ${RESOURCES.arm}`);
  keep({ kind: "token", name: claims.name || claims.upn || claims.app_displayname || "A token", tokens });
}

/** End the sign-in here and, for a user, on the server. */
export async function signOut() {
  const { refresh } = kept ?? {};
  forget("");
  if (!refresh) return;
  channel?.postMessage({ before: refresh, after: null });
  await ask("revoke", { client_id: CLIENT, token: refresh }).catch(() => undefined); // it ends by itself, unused
}

function forget(reason) {
  kept = null;
  secret = "";
  write(null);
  for (const each of listeners) each(reason);
}

function keep(signIn) {
  const isNew = kept === null;
  kept = signIn;
  write(kept);
  if (isNew) for (const each of listeners) each("");
}

async function ask(what, fields) {
  let reply;
  try {
    reply = await fetch(`${AUTHORITY}/${what}`, { method: "POST", body: new URLSearchParams(fields), credentials: "omit", redirect: "error" });
  } catch {
    throw new SignInFault("Carrel does not answer.", "away");
  }
  const told = await reply.json().catch(() => ({}));
  if (reply.ok) return told;
  if (reply.status >= 500 || reply.status === 429) throw new SignInFault(sentence(told) ?? "Carrel cannot answer now.", "away");
  if (reply.status === 404) throw new SignInFault("This server hands out no tokens of its own: paste one of your identity provider's.", "closed");
  throw new SignInFault(sentence(told) ?? `The server refused (${reply.status}).`, told.error ?? "refused");
}

/** What the authority says, without its numbers. */
function sentence(told) {
  return told.error_description?.replace(/^AADSTS\d+: /, "").replace(/ Trace ID: .*/s, "") ?? told.error?.message;
}

function entry(fields) {
  return { token: fields.access_token, until: now() + Number(fields.expires_in) };
}

/** What a token says, unchecked: it is for showing, and for knowing when to ask for the next. */
function claimsOf(text) {
  try {
    const part = text.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (each) => each.charCodeAt(0))));
  } catch {
    throw new SignInFault("This is no token: three parts of letters, with dots between, are expected.");
  }
}

function planeOf(audience) {
  const bare = String(audience ?? "").replace(/\/$/, "");
  if (bare === location.origin) return "arm";
  return Object.keys(RESOURCES).find((plane) => RESOURCES[plane] === bare) ?? ALIASES[bare];
}

function now() {
  return Date.now() / 1000;
}

function read() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY));
    return found?.tokens ? found : null;
  } catch {
    return null;
  }
}

function write(value) {
  try {
    if (value) sessionStorage.setItem(KEY, JSON.stringify(value));
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage is off: the sign-in lasts as long as the page.
  }
}
