// The list of jobs: what waits and runs, then the newest first; searched, filtered, paged.

import { Part, api, closeJob, el, openJob, shownJob, toast, changed, size, when, duration } from "./core.js";

export const STATES = {
  queued: "Waiting", running: "Running", succeeded: "Finished", failed: "Failed",
  cancelled: "Cancelled", interrupted: "Interrupted",
};
const KINDS = { dreambooth: "Training", control: "Control training", batch: "Batch", evaluate: "Evaluation" };
const GROUPS = { all: "All", active: "Waiting and running", succeeded: "Finished", failed: "Not finished", trash: "Trash" };

class Runs extends Part {
  begin() {
    this.filter = { group: "all", q: "", page: 1 };
    const few = this.getAttribute("compact");
    if (few) {
      this.filter.per_page = few;
      if (this.getAttribute("kind")) this.filter.kind = this.getAttribute("kind");
      this.list = el("div", { class: "job-list" });
      this.replaceChildren(this.list);
      return;
    }
    this.pager = el("nav", { class: "pager", "aria-label": "Pages" });
    this.list = el("div", { class: "job-list" });
    this.detail = el("div", { class: "job-detail" });
    this.overview = el("section", { class: "overview", "aria-label": "Queue and history" }, this.tools(), this.list, this.pager, this.load = el("p", { class: "quiet load" }));
    this.replaceChildren(this.overview, this.detail);
    this.onjob = (event) => this.show(event.detail);
    this.onpop = () => this.show(shownJob());
    window.addEventListener("studio-job", this.onjob);
    window.addEventListener("popstate", this.onpop);
    this.show(shownJob());
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    window.removeEventListener("studio-job", this.onjob);
    window.removeEventListener("popstate", this.onpop);
  }

  tools() {
    let pending;
    const search = el("input", {
      type: "search", placeholder: "Search", "aria-label": "Search runs",
      oninput: (event) => {
        clearTimeout(pending);
        pending = setTimeout(() => this.set({ q: event.target.value, page: 1 }), 250);
      },
    });
    const group = el("select", {
      "aria-label": "Which runs", onchange: (event) => this.set({ group: event.target.value, page: 1 }),
    }, Object.entries(GROUPS).map(([value, title]) => el("option", { value }, title)));
    return el("div", { class: "tools" }, search, group);
  }

  set(values) {
    Object.assign(this.filter, values);
    this.look();
  }

  show(id) {
    if ((this.shown || null) === (id || null) && this.detail.firstChild) return;
    this.shown = id;
    this.classList.toggle("has-detail", Boolean(id));
    this.detail.replaceChildren(...(id ? [el("od-run", { job: id })] : [this.hint()]));
    this.mark();
  }

  hint() {
    return el("div", { class: "card empty wide-only" }, el("b", {}, "Choose a run"),
      el("p", {}, "Its curves, samples, scores and log appear here. The address of the page then leads to it."));
  }

  async refresh() {
    const query = new URLSearchParams({ ...this.filter });
    const answer = await api(`api/jobs?${query}`);
    const key = JSON.stringify(answer);
    if (key !== this.seen) {
      this.seen = key;
      this.draw(answer);
    }
    if (this.load && answer.active) await this.readLoad();
    return answer.active > 0;
  }

  async readLoad() {
    const now = await api("api/resources");
    const gpu = now.gpu_total ? ` · GPU ${size(now.gpu_used)} of ${size(now.gpu_total)}` : "";
    this.load.textContent = `CPU ${Math.round(now.cpu)} % · memory ${size(now.memory_used)} of ${size(now.memory_total)}${gpu}`;
  }

  failed(error) {
    this.list.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
    this.seen = "";
  }

  draw(answer) {
    const cards = answer.jobs.map((job) => this.card(job));
    const now = cards.length ? cards : [this.empty()];
    const same = now.length === this.list.children.length && now.every((one, place) => one === this.list.children[place]);
    if (!same) this.list.replaceChildren(...now);
    if (!this.pager) return;
    const turn = (title, page) => el("button", {
      type: "button", disabled: page < 1 || page > answer.pages, onclick: () => this.set({ page }),
    }, title);
    const many = answer.pages > 1;
    this.pager.replaceChildren(...(many ? [
      turn("Newer", answer.page - 1), el("span", {}, `Page ${answer.page} of ${answer.pages}`), turn("Older", answer.page + 1),
    ] : []));
    this.mark();
  }

  empty() {
    const filtered = this.filter.q || this.filter.group !== "all";
    return el("div", { class: "card empty" },
      el("b", {}, filtered ? "Nothing here" : "No run yet"),
      el("p", {}, filtered ? "Nothing fits this search. Choose All, or search for something else."
        : "Choose a subject under Train and press Start. You can close the page meanwhile: trainings go on by themselves, and the page finds them again."));
  }

  card(job) {
    const share = job.total_steps ? Math.round((100 * job.step) / job.total_steps) : 0;
    const image = job.thumbnail ? el("img", { src: `/${job.thumbnail}`, alt: "", loading: "lazy", width: 64, height: 64 })
      : el("span", { class: "no-image", "aria-hidden": "true" });
    const facts = [job.method.toUpperCase(), job.base].filter(Boolean).join(" on ");
    const score = job.subject_similarity ? ` · likeness ${job.subject_similarity.toFixed(2)}` : "";
    const time = job.status === "running" && job.eta_seconds !== null ? `${share} % · ${duration(job.eta_seconds)} left`
      : job.status === "queued" ? `place ${job.place_in_queue || "?"} in the queue` : when(job.created);
    const card = this.anchor(job.id);
    const key = JSON.stringify(job);
    if (card.key === key) return card;
    card.key = key;
    Object.assign(card.dataset, { name: job.name, status: job.status });
    card.replaceChildren(image, el("span", { class: "about" },
      el("span", { class: "line" }, el("b", {}, job.name), pill(job)),
      el("span", { class: "quiet" }, [KINDS[job.kind] || job.kind, facts].filter(Boolean).join(" · ") + score),
      el("span", { class: "quiet" }, time),
      job.status === "running" ? bar(job) : null));
    return card;
  }

  // The element of a job stays the same, so that a press or the focus on it is never lost.
  anchor(id) {
    this.anchors = this.anchors || new Map();
    if (!this.anchors.has(id)) {
      this.anchors.set(id, el("a", {
        class: "job-card", href: `?job=${id}`, "data-job": id,
        onclick: (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          openJob(id);
        },
      }));
    }
    return this.anchors.get(id);
  }

  mark() {
    for (const card of this.list.querySelectorAll(".job-card")) {
      if (card.dataset.job === this.shown) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
  }
}

export function pill(job) {
  const word = job.status === "running" && job.wish ? "Stopping" : STATES[job.status];
  return el("span", { class: `pill ${job.status}` }, word);
}

export function bar(job) {
  const share = job.total_steps ? (100 * job.step) / job.total_steps : 0;
  const busy = job.status === "running" && (!job.step || job.wish);
  const fill = el("div");
  fill.style.width = `${share.toFixed(1)}%`;
  return el("div", {
    class: busy ? "bar busy" : "bar", role: "progressbar", "aria-label": "Progress",
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": share.toFixed(0),
  }, fill);
}

// Delete with undo, from wherever a job is shown.
export async function remove(job, after) {
  await api(`api/jobs/${job.id}`, { method: "DELETE" });
  after?.();
  changed();
  toast(`${job.name} is in the trash.`, "Undo", async () => {
    await api(`api/jobs/${job.id}/restore`, { method: "POST" });
    changed();
  });
}

customElements.define("od-runs", Runs);
export { closeJob };
