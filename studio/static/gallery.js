// Images made on the page: what is being made now, and all there was before.

import { Part, api, changed, count, decimal, duration, el, t, toast, w, when } from "./core.js";
import { bar, remove } from "./runs.js";
import { picture } from "./run.js";

class Gallery extends Part {
  pace = 700;

  begin() {
    this.page = 1;
    this.albums = new Map();
    this.list = el("div", { class: "albums" });
    this.pager = el("nav", { class: "pager", "aria-label": t("Pages of images") });
    this.replaceChildren(this.list, this.pager);
  }

  async refresh() {
    const answer = await api(`api/jobs?kind=generate&per_page=6&page=${this.page}`);
    const key = JSON.stringify(answer);
    if (key !== this.seen) {
      this.seen = key;
      await this.draw(answer);
    }
    return answer.active > 0;
  }

  failed(error) {
    this.list.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
    this.seen = "";
  }

  async draw(answer) {
    const jobs = answer.jobs.filter((job) => job.status !== "cancelled");
    await Promise.all(jobs.filter((job) => job.status === "succeeded" && !this.albums.has(job.id)).map(async (job) => {
      this.albums.set(job.id, await api(`api/jobs/${job.id}/images`));
    }));
    const kept = new Map([...this.list.children].map((one) => [one.dataset.key, one]));
    const cards = jobs.map((job) => {
      const key = `${job.id}:${job.status}`;
      return job.status === "succeeded" && kept.get(key) ? kept.get(key) : this.album(job, key);
    });
    this.list.replaceChildren(...(cards.length ? cards : [this.empty()]));
    const turn = (title, page) => el("button", {
      type: "button", disabled: page < 1 || page > answer.pages, onclick: () => { this.page = page; this.look(); },
    }, title);
    this.pager.replaceChildren(...(answer.pages > 1 ? [turn(t("Newer"), answer.page - 1), el("span", {}, t("Page {0} of {1}", answer.page, answer.pages)), turn(t("Older"), answer.page + 1)] : []));
  }

  empty() {
    return el("div", { class: "card empty" }, el("b", {}, t("Images appear here")),
      el("p", {}, t("Write what they should show and press Generate. They stay: every image keeps its prompt, seed and settings inside, and can be made again from the file alone.")));
  }

  album(job, key) {
    const card = el("section", { class: "card album pictures", "data-key": key, "data-job": job.id, "data-status": job.status });
    if (job.status !== "succeeded") {
      card.append(this.waiting(job));
      return card;
    }
    const images = this.albums.get(job.id);
    const labels = [...new Set(images.map((image) => image.label))];
    const steered = images.some((image) => image.map);
    const grouped = steered ? images.filter((image) => image.map) : images;
    const groups = [...new Set(grouped.map((image) => `${image.map}\n${image.prompt}`))];
    card.append(el("div", { class: "top" }, el("p", { class: "quiet" }, `${t("{0} in {1}", count(images.length, "1 image", "{0} images"), duration(job.seconds || 0))} · ${when(job.created)}`), this.actions(job)));
    for (const group of groups) {
      const mine = images.filter((image) => `${image.map}\n${image.prompt}` === group || (!image.map && group.endsWith(`\n${image.prompt}`)));
      card.append(...this.group(mine, labels));
    }
    return card;
  }

  group(images, labels) {
    const seeds = [...new Set(images.map((image) => image.seed))];
    const at = (label, seed) => images.filter((image) => image.label === label && image.seed === seed).at(-1);
    const map = images.find((image) => image.map);
    const title = el("h3", {}, map ? el("img", { class: "map", src: `/${map.map}`, alt: t("Control image") }) : null, images[0].prompt);
    if (images.some((image) => image.column)) return [title, ...seeds.flatMap((seed) => this.grid(images.filter((image) => image.seed === seed), labels, seed))];
    const head = el("tr", {}, el("td"), seeds.map((seed) => el("th", { scope: "col" }, t("seed {0}", seed))));
    const rows = labels.map((label) => el("tr", { class: label === "Base" ? "base" : "adapted" }, el("th", { scope: "row" }, said(label)), seeds.map((seed) => cell(at(label, seed)))));
    if (map) {
      rows.push(el("tr", { class: "overlay" }, el("th", { scope: "row" }, t("Overlay")), seeds.map((seed) => {
        const image = images.find((one) => one.overlay && one.seed === seed);
        return el("td", {}, image ? picture(`${image.overlay}?size=320`, image.overlay, t("Overlay, seed {0}", seed)) : null);
      })));
    }
    const other = labels.find((label) => label !== "Base");
    const pair = labels.includes("Base") && other ? [at("Base", seeds[0]), at(other, seeds[0])] : [];
    const slider = pair.every(Boolean) && pair.length ? el("details", { class: "fold" }, el("summary", {}, t("Compare with a slider")), compare(...pair)) : null;
    return [title, table(head, rows), slider].filter(Boolean);
  }

  // Rows by one thing, such as checkpoints, columns by another, such as strengths; all of one seed.
  grid(images, labels, seed) {
    const columns = [...new Set(images.map((image) => image.column).filter(Boolean))];
    const head = el("tr", {}, el("td", {}, t("seed {0}", seed)), columns.map((column) => el("th", { scope: "col" }, said(column))));
    const rows = labels.filter((label) => images.some((image) => image.label === label)).map((label) => {
      const mine = images.filter((image) => image.label === label);
      const cells = mine.some((image) => image.column) ? columns.map((column) => cell(mine.find((image) => image.column === column))) : [cell(mine[0])];
      return el("tr", { class: label === "Base" ? "base" : "adapted" }, el("th", { scope: "row" }, said(label)), cells);
    });
    return [table(head, rows)];
  }

  actions(job) {
    return el("div", { class: "actions small" },
      el("button", { type: "button", "data-action": "reuse", onclick: () => this.reuse(job) }, t("Use settings")),
      el("a", { class: "button", href: `/api/jobs/${job.id}/zip`, download: "" }, t("Download all")),
      el("button", { type: "button", "data-action": "delete", onclick: () => remove(job, () => this.look()) }, t("Delete")));
  }

  async reuse(job) {
    const config = await api(`api/jobs/${job.id}/config`);
    window.dispatchEvent(new CustomEvent("studio-recipe", { detail: config }));
    toast(t("The form has these settings now."));
  }

  waiting(job) {
    const share = job.total_steps ? `${Math.round((100 * job.step) / job.total_steps)} %` : "";
    const words = {
      queued: t("Waiting, place {0}", job.place_in_queue || "?"), running: job.step ? t("Making images … {0}", share) : t("Loading the base model …"),
      failed: t("This did not work"), interrupted: t("Interrupted"),
    };
    const active = job.status === "queued" || job.status === "running";
    return el("div", {}, el("div", { class: "top" }, el("b", {}, words[job.status] || job.status),
      el("div", { class: "actions small" }, active
        ? el("button", { type: "button", class: "stop", "data-action": "cancel", onclick: () => this.cancel(job) }, t("Cancel"))
        : el("button", { type: "button", "data-action": "delete", onclick: () => remove(job, () => this.look()) }, t("Remove")))),
      el("p", { class: "quiet" }, job.prompt), active ? bar(job) : el("p", { class: "message problem", role: "alert" }, t(job.error)));
  }

  async cancel(job) {
    await api(`api/jobs/${job.id}/cancel`, { method: "POST" });
    changed();
  }
}

// Rows and columns are labelled by the server; what is a word in them is translated.
const KNOWN = [w("Base"), w("Adapted"), w("With control"), w("Recommended"), w("Last")];
const NUMBERED = { Strength: w("Strength {0}"), Step: w("Step {0}"), Blend: w("Blend {0}") };

function said(label) {
  const [word, number] = label.split(" ");
  if (word in NUMBERED && Number.isFinite(Number(number))) return t(NUMBERED[word], word === "Step" ? number : decimal(Number(number), 2));
  return KNOWN.includes(label) ? t(label) : label;
}

function cell(image) {
  const alt = image && `${[said(image.label), image.column && said(image.column), t("seed {0}", image.seed)].filter(Boolean).join(", ")}: ${image.prompt}`;
  return el("td", {}, image ? picture(image.thumbnail, image.url, alt) : null);
}

function table(head, rows) {
  return el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("Images") }, el("table", {}, el("thead", {}, head), el("tbody", {}, rows)));
}

// Two images over each other, divided by a slider that keys move too.
export function compare(before, after) {
  const top = el("img", { src: `/${after.url}`, alt: said(after.label), class: "over" });
  const range = el("input", {
    type: "range", min: 0, max: 100, value: 50, "aria-label": t("{0} left, {1} right", said(before.label), said(after.label)),
    oninput: (event) => frame.style.setProperty("--cut", `${event.target.value}%`),
  });
  const frame = el("div", { class: "compare" }, el("img", { src: `/${before.url}`, alt: said(before.label) }), top,
    el("span", { class: "tag left" }, said(before.label)), el("span", { class: "tag right" }, said(after.label)));
  return el("div", { class: "compare-box" }, frame, range);
}

customElements.define("od-gallery", Gallery);
