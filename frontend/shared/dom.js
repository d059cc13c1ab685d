// Small helpers around the document.

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes (names with a dash, and role) and children. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.includes("-") || key === "role" || key === "for" || key === "scope") made.setAttribute(key, value);
    else if (key === "dataset") Object.assign(made.dataset, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An icon of the page; the text beside it says what it means. */
function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg"), use = document.createElementNS(space, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon and is called `label`. */
export function iconButton(name, label, onClick, properties = {}) {
  const text = el("span", { className: "unseen" }, label);
  const button = el("button", { type: "button", className: "tool", title: label, ...properties }, icon(name), text);
  button.addEventListener("click", onClick);
  return button;
}

/** Ask the browser to save something. */
export function save(href, filename) {
  const link = el("a", { href, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
}

export function saveBlob(blob, filename) {
  const url = URL.createObjectURL(blob);
  save(url, filename);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
