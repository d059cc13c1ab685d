// The list of pictures: a row each with its thumbnail, what is happening to it, and a way to be rid of it.

import { byId, el, iconButton } from "../shared/dom.js";
import { say } from "../shared/notices.js";
import { roughly, seconds, sizes } from "../shared/words.js";

export class Rows {
  constructor(pictures, jobs) {
    this.pictures = pictures;
    this.jobs = jobs;
    this.rows = new Map();
    pictures.addEventListener("change", ({ detail }) => (detail ? this.update(detail) : this.render()));
  }

  render() {
    const { list } = this.pictures;
    for (const picture of this.rows.keys()) if (!list.includes(picture)) this.rows.delete(picture);
    const shown = byId("rows"), items = list.map((picture) => this.row(picture).item);
    // An element that is put in again loses the focus.
    if (items.length !== shown.children.length || items.some((item, i) => item !== shown.children[i])) {
      const focused = document.activeElement;
      shown.replaceChildren(...items);
      if (shown.contains(focused)) focused.focus({ preventScroll: true });
    }
    list.forEach((picture) => this.update(picture));
  }

  row(picture) {
    if (!this.rows.has(picture)) this.rows.set(picture, this.make(picture));
    return this.rows.get(picture);
  }

  make(picture) {
    const shot = el("span", { className: "blank" }), state = el("small");
    const bar = el("progress", { max: 100, hidden: true, "aria-label": `Progress of ${picture.name}` });
    const text = el("span", { className: "row-text" }, el("b", {}, picture.name), state);
    const open = el("button", { type: "button", className: "row" }, shot, text);
    open.addEventListener("click", () => this.pictures.select(picture));
    const drop = iconButton("cross", `Remove ${picture.name} from the list`, () => this.drop(picture));
    return { item: el("li", {}, open, drop, bar), open, shot, state, bar, drop };
  }

  update(picture) {
    if (!this.pictures.list.includes(picture)) return;
    const row = this.row(picture), current = picture === this.pictures.current;
    row.item.dataset.state = picture.phase;
    row.item.dataset.current = current;
    if (current) row.open.setAttribute("aria-current", "true");
    else row.open.removeAttribute("aria-current");
    row.state.textContent = describe(picture);
    row.bar.hidden = !picture.busy;
    row.bar.value = picture.job?.progress ?? 0;
    const label = picture.busy ? `Cancel ${picture.name}` : `Remove ${picture.name} from the list`;
    row.drop.title = row.drop.querySelector(".unseen").textContent = label;
    if (picture.url && row.shown !== picture.url) {
      row.shown = picture.url;
      const image = el("img", { src: picture.url, alt: "" });
      image.addEventListener("error", () => image.replaceWith(el("span", { className: "blank" })));
      row.shot.replaceWith(image);
      row.shot = image;
    }
  }

  drop(picture) {
    if (picture.busy) this.jobs.cancel(picture);
    else {
      const { list } = this.pictures, at = list.indexOf(picture);
      this.pictures.remove(picture);
      const next = list[Math.min(at, list.length - 1)];
      (next ? this.row(next).open : byId("choose")).focus();
      say(`${picture.name} was removed from the list.`);
    }
  }
}

function describe({ phase, job, result, error, attempt }) {
  switch (phase) {
    case "sending": return "Sending…";
    case "ready": return result ? "Ready to be made again" : "Ready";
    case "starting": return "Starting…";
    case "active":
      if (job.queue_position) return `Waiting, number ${job.queue_position} in the queue`;
      return `${job.progress} %${job.eta_seconds ? `, ${roughly(job.eta_seconds)} left` : ""}`;
    case "done": {
      const took = job.cached && attempt?.took;
      return `${sizes(job.mesh.extents_mm)}${took ? `, from cache in ${seconds(took)}` : ""}`;
    }
    case "cancelled": return "Cancelled";
    default: return error ?? "Failed";
  }
}
