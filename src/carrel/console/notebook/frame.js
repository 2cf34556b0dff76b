// A session's markup in its frame (server/output_frame.py): given to it once, through a port that only this page and that one hold. What comes
// back is how tall it is, and is believed within bounds: nobody else is listened to.

import { h } from "../ui.js";

const TALLEST = 640; // pixels: what is taller scrolls
const MOST_SIZES = 200; // a drawing that keeps growing is left as it is
const MOST_LOADS = 50;
const frames = new Map(); // elements and the port to each

/** `text` as a frame that is as tall as it needs. `title` names it. */
export function frame(mime, text, title) {
  const element = h("iframe.markup", { title, sandbox: "allow-scripts", referrerPolicy: "no-referrer", src: "output" });
  let port = null;
  let sizes = 0;
  let loads = 0;
  element.addEventListener("load", () => {
    port?.close(); // an element that is moved on the page loads anew
    if (++loads > MOST_LOADS) return;
    const channel = new MessageChannel();
    port = channel.port1;
    port.onmessage = ({ data }) => {
      const height = Number(data?.height);
      if (!(height >= 0) || ++sizes > MOST_SIZES) return;
      element.style.height = `${Math.min(TALLEST, Math.max(16, Math.ceil(height) + 2))}px`;
    };
    element.contentWindow.postMessage({ mime, text, theme: theme() }, "*", [channel.port2]); // its origin has no name
    frames.set(element, port);
  });
  return element;
}

function theme() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function retell() {
  for (const [element, port] of frames) {
    if (element.isConnected) port.postMessage({ theme: theme() });
    else frames.delete(element);
  }
}

new MutationObserver(retell).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retell);
