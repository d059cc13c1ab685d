// Checks of a page for everyone, after the rules of axe-core: names, references, contrast. Runs in the page and
// returns what it found.
() => {
  const problems = [];
  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const called = (element) => `<${element.tagName.toLowerCase()} id="${element.id}" class="${element.getAttribute("class") ?? ""}">`;

  // ── names ──
  const text = (element) => {
    const copy = element.cloneNode(true);
    copy.querySelectorAll("[aria-hidden=true]").forEach((each) => each.remove());
    return copy.textContent.trim();
  };
  const byIds = (ids) => (ids ?? "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id));
  const name = (element) =>
    byIds(element.getAttribute("aria-labelledby")).map((each) => each && text(each)).join(" ").trim()
    || element.getAttribute("aria-label")
    || [...(element.labels ?? [])].map(text).join(" ").trim()
    || (["BUTTON", "A", "SUMMARY", "OPTION"].includes(element.tagName) && text(element))
    || "";
  const needing = "button, a[href], input, select, textarea, summary, progress, dialog, [tabindex='0'], [role=img], [role=group], [role=toolbar]";
  for (const element of document.querySelectorAll(needing)) {
    if (visible(element) && !name(element)) problems.push(`no name: ${called(element)}`);
  }
  for (const image of document.querySelectorAll("img:not([alt])")) problems.push(`no alt: ${called(image)}`);
  for (const svg of document.querySelectorAll("svg")) {
    if (svg.getAttribute("aria-hidden") !== "true" && !svg.getAttribute("aria-label")) problems.push(`an icon that is read out: ${called(svg)}`);
  }

  // ── references and structure ──
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => problems.push(`twice: #${id}`));
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      if (byIds(element.getAttribute(attribute)).includes(null)) problems.push(`${attribute} leads nowhere: ${called(element)}`);
    }
  }
  if (!document.documentElement.lang) problems.push("the page has no language");
  if (document.querySelectorAll("main").length !== 1 || document.querySelectorAll("h1").length !== 1) problems.push("one main and one h1");
  let level = 1;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!visible(heading)) continue;
    if (Number(heading.tagName[1]) > level + 1) problems.push(`a level is left out before ${called(heading)}`);
    level = Number(heading.tagName[1]);
  }
  for (const list of document.querySelectorAll("ul, ol")) {
    if ([...list.children].some((child) => child.tagName !== "LI")) problems.push(`not a list: ${called(list)}`);
  }

  // ── contrast: text against what lies behind it ──
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const colour = (css) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = css;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((each, i) => each * a / 255 + under[i] * (1 - a / 255));
  // A gradient counts with each of its colours: text has to stand out from all of them.
  const grounds = (element) => {
    if (!element) return [colour("Canvas").slice(0, 3)];
    const style = getComputedStyle(element), below = grounds(element.parentElement);
    const stops = style.backgroundImage.includes("gradient") ? style.backgroundImage.match(/(rgba?|color)\([^()]*\)/g) ?? [] : [];
    const layers = stops.length ? stops : [style.backgroundColor];
    return layers.flatMap((css) => (colour(css)[3] === 255 ? [colour(css).slice(0, 3)] : below.map((each) => over(colour(css), each))));
  };
  const luminance = (rgb) => rgb.map((each) => each / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || seen.has(element) || !visible(element) || element.closest(".unseen, :disabled, noscript, option, script")) continue;
    if (document.querySelector("dialog[open]") && !element.closest("dialog[open]")) continue;
    seen.add(element);
    const style = getComputedStyle(element), size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const worst = Math.min(...grounds(element).map((ground) => contrast(over(colour(style.color), ground), ground)));
    if (worst < needed) problems.push(`contrast ${worst.toFixed(2)} of “${node.textContent.trim().slice(0, 30)}” in ${called(element)}`);
  }
  // What can be operated has an outline or a ground that stands out.
  for (const field of document.querySelectorAll("input:not([type=radio], [type=checkbox], [type=range], [type=file]), select, textarea")) {
    if (!visible(field)) continue;
    const line = colour(getComputedStyle(field).borderTopColor), [ground] = grounds(field.parentElement);
    if (contrast(over(line, ground), ground) < 3) problems.push(`the edge of ${called(field)} is faint`);
  }
  return problems;
}
