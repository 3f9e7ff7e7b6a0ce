// The list of jobs: what waits and runs, then the newest first; searched, filtered, paged.

import { Part, api, closeJob, decimal, el, openJob, shownJob, t, toast, changed, size, w, when, duration } from "./core.js";

export const STATES = {
  queued: w("Waiting"), running: w("Running"), succeeded: w("Finished"), failed: w("Failed"),
  cancelled: w("Cancelled"), interrupted: w("Interrupted"),
};
const KINDS = { dreambooth: w("Training"), control: w("Control training"), batch: w("Batch"), evaluate: w("Evaluation") };
const GROUPS = { all: w("All"), active: w("Waiting and running"), succeeded: w("Finished"), failed: w("Not finished"), trash: w("Trash") };

const WIDE = 760;
const NOTHING = [w("Nothing here"), w("Nothing fits this search. Choose All, or search for something else.")];
const NO_BATCH = [w("No batch yet"), w("Write prompts or bring a file of them, and press Start batch. The images appear here and under Runs; a batch goes on when the page is closed.")];
const NO_RUN = [w("No run yet"), w("Choose a subject under Train and press Start. You can close the page meanwhile: trainings go on by themselves, and the page finds them again.")];

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
    this.pager = el("nav", { class: "pager", "aria-label": t("Pages") });
    this.list = el("div", { class: "job-list" });
    this.detail = el("div", { class: "job-detail" });
    this.overview = el("section", { class: "overview", "aria-label": t("Queue and history") }, this.tools(), this.list, this.pager, this.load = el("p", { class: "quiet load" }));
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
      type: "search", placeholder: t("Search"), "aria-label": t("Search runs"),
      oninput: (event) => {
        clearTimeout(pending);
        pending = setTimeout(() => this.set({ q: event.target.value, page: 1 }), 250);
      },
    });
    const group = el("select", {
      "aria-label": t("Which runs"), onchange: (event) => this.set({ group: event.target.value, page: 1 }),
    }, Object.entries(GROUPS).map(([value, title]) => el("option", { value }, t(title))));
    return el("div", { class: "tools" }, search, group);
  }

  set(values) {
    Object.assign(this.filter, values);
    this.look();
  }

  show(id) {
    if ((this.shown || null) === (id || null) && this.detail.firstChild) return;
    this.seen = "";
    this.shown = id;
    this.classList.toggle("has-detail", Boolean(id));
    this.detail.replaceChildren(...(id ? [el("od-run", { job: id })] : [this.hint()]));
    this.mark();
  }

  hint() {
    return el("div", { class: "card empty wide-only" }, el("b", {}, t("Choose a run")),
      el("p", {}, t("Its curves, samples, scores and log appear here. The address of the page then leads to it.")));
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
    this.load.textContent = resources(now);
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
    if (!this.shown && answer.jobs.length && this.offsetWidth > WIDE && !this.detail.querySelector("od-run")) {
      this.detail.replaceChildren(el("od-run", { job: answer.jobs[0].id }));
    }
    this.pager.replaceChildren(...(many ? [
      turn(t("Newer"), answer.page - 1), el("span", {}, t("Page {0} of {1}", answer.page, answer.pages)), turn(t("Older"), answer.page + 1),
    ] : []));
    this.mark();
  }

  empty() {
    const filtered = this.filter.q || this.filter.group !== "all";
    const [title, text] = filtered ? NOTHING : this.filter.kind === "batch" ? NO_BATCH : NO_RUN;
    return el("div", { class: "card empty" }, el("b", {}, t(title)), el("p", {}, t(text)));
  }

  card(job) {
    const share = job.total_steps ? Math.round((100 * job.step) / job.total_steps) : 0;
    const image = job.thumbnail ? el("img", { src: `/${job.thumbnail}`, alt: "", loading: "lazy", width: 64, height: 64 })
      : el("span", { class: "no-image", "aria-hidden": "true" });
    const facts = job.method ? t("{0} on {1}", job.method.toUpperCase(), job.base) : job.base;
    const score = job.subject_similarity ? ` · ${t("likeness {0}", decimal(job.subject_similarity, 2))}` : "";
    const time = job.stage ? `${t(job.stage)} …` : job.status === "running" && job.eta_seconds !== null ? t("{0} % · {1} left", share, duration(job.eta_seconds))
      : job.status === "queued" ? t("place {0} in the queue", job.place_in_queue || "?") : when(job.created);
    const card = this.anchor(job.id);
    const key = JSON.stringify(job);
    if (card.key === key) return card;
    card.key = key;
    Object.assign(card.dataset, { name: job.name, status: job.status });
    card.replaceChildren(image, el("span", { class: "about" },
      el("span", { class: "line" }, el("b", {}, job.name), pill(job)),
      el("span", { class: "quiet" }, [t(KINDS[job.kind] || job.kind), facts].filter(Boolean).join(" · ") + score),
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
      if (card.dataset.job === (this.shown || this.detail.querySelector("od-run")?.getAttribute("job"))) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
  }
}

// How busy the computer is that does the work.
export function resources(now) {
  const gpu = now.gpu_total ? ` · ${t("GPU {0} of {1}", size(now.gpu_used), size(now.gpu_total))}` : "";
  return `CPU ${Math.round(now.cpu)} % · ${t("memory {0} of {1}", size(now.memory_used), size(now.memory_total))}${gpu}`;
}

export function pill(job) {
  const word = job.status === "running" && job.wish ? w("Stopping") : STATES[job.status];
  return el("span", { class: `pill ${job.status}` }, t(word));
}

export function bar(job) {
  const share = job.total_steps ? (100 * job.step) / job.total_steps : 0;
  const busy = job.status === "running" && (!job.step || job.wish);
  const fill = el("div");
  fill.style.width = `${share.toFixed(1)}%`;
  return el("div", {
    class: busy ? "bar busy" : "bar", role: "progressbar", "aria-label": t("Progress"),
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": share.toFixed(0),
  }, fill);
}

// Delete with undo, from wherever a job is shown.
export async function remove(job, after) {
  await api(`api/jobs/${job.id}`, { method: "DELETE" });
  after?.();
  changed();
  toast(t("{0} is in the trash.", job.name), t("Undo"), async () => {
    await api(`api/jobs/${job.id}/restore`, { method: "POST" });
    changed();
  });
}

customElements.define("od-runs", Runs);
export { closeJob };
