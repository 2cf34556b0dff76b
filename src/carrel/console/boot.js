// Starts the console, and again where a part of it did not come: browsers break off what they are loading when a network interface of the
// machine comes or goes, as one does with each sandbox that has a network.

const KEY = "carrel.boots";
const MOST = 5;

try {
  await import("./app.js");
  sessionStorage.removeItem(KEY);
} catch (error) {
  const before = Number(sessionStorage.getItem(KEY) ?? 0);
  if (before >= MOST) throw error;
  sessionStorage.setItem(KEY, String(before + 1));
  setTimeout(() => location.reload(), 200 * 2 ** before);
}
