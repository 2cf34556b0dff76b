// What a page lacks for those who do not see it, or see little: run in the page by test_console_access.py. A list of sentences.
(() => {
  const faults = [];
  const told = (element) => `<${element.tagName.toLowerCase()}${element.id ? ` #${element.id}` : ""} class="${element.className.baseVal ?? element.className}"> "${(element.textContent ?? "").trim().slice(0, 40)}"`;
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest("[aria-hidden='true']");
  const textOf = (ids) => (ids ?? "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
  const nameOf = (element) =>
    element.getAttribute("aria-label") || textOf(element.getAttribute("aria-labelledby")) || [...(element.labels ?? [])].map((each) => each.textContent).join(" ").trim()
    || element.getAttribute("alt") || (/^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName) ? "" : element.textContent.trim()) || "";

  for (const element of document.querySelectorAll("button, a[href], input, select, textarea, summary, [role=grid], [role=img], [role=region], dialog")) {
    if (isSeen(element) && !nameOf(element)) faults.push(`no name: ${told(element)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  for (const id of new Set(ids.filter((each, at) => ids.indexOf(each) !== at))) faults.push(`two of id ${id}`);
  for (const name of ["for", "aria-labelledby", "aria-describedby", "aria-activedescendant", "list"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      for (const id of element.getAttribute(name).split(/\s+/)) if (id && !document.getElementById(id)) faults.push(`${name} of ${told(element)} leads nowhere`);
    }
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (document.documentElement.lang !== "en") faults.push("no language");
  for (const element of document.querySelectorAll("button, a.button, input, select")) {
    const { width, height } = element.getBoundingClientRect();
    if (isSeen(element) && width && Math.min(width, height) < 17) faults.push(`too small to hit: ${told(element)} ${width}x${height}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than the screen: ${document.documentElement.scrollWidth} > ${innerWidth}`);

  // Contrast (WCAG 2.2, 1.4.3): text against the first backgrounds behind it, mixed as they are seen through.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((each, at) => each * a + under[at] * (1 - a));
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const color = rgba(getComputedStyle(each).backgroundColor);
      if (color[3]) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), rgba(getComputedStyle(document.body).backgroundColor).slice(0, 3));
  };
  const light = (rgb) => rgb.map((each) => each / 255).map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)).reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const ratio = (one, other) => (Math.max(light(one), light(other)) + 0.05) / (Math.min(light(one), light(other)) + 0.05);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !isSeen(element) || element.closest("noscript, script, :disabled, .unseen, .skip, option")) continue;
    const style = getComputedStyle(element);
    const under = behind(element);
    let opacity = 1;
    for (let each = element; each; each = each.parentElement) opacity *= Number(getComputedStyle(each).opacity);
    const [r, g, b, a] = rgba(style.color);
    const found = ratio(over([r, g, b, a * opacity], under), under);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (found < (isLarge ? 3 : 4.5)) faults.push(`contrast ${found.toFixed(2)}: ${told(element)} ${style.color} on ${under.map(Math.round)}`);
  }
  return [...new Set(faults)];
})();
