// One job: how far it is, its curves, scores, samples, log and settings, and all that can be done.

import { Part, api, changed, closeJob, duration, el, openJob, pace, use, when } from "./core.js";
import { lineChart, smoothed } from "./charts.js";
import { bar, pill, remove } from "./runs.js";

class Run extends Part {
  pace = 1000;

  begin() {
    this.job = this.job || this.getAttribute("job");
    this.head = el("div");
    this.curves = el("div");
    this.results = el("div");
    this.message = el("div", { class: "run-message" });
    this.log = el("pre", { tabIndex: 0 });
    this.config = el("dl", { class: "config" });
    const back = el("button", { type: "button", class: "link back", onclick: () => closeJob() }, "← All runs");
    this.replaceChildren(back, this.head, this.message, this.curves, this.results,
      this.fold("Log", this.log, () => this.readLog()), this.fold("Settings", this.config, () => this.readConfig()));
  }

  fold(title, content, opened) {
    return el("details", { class: "card fold", ontoggle: (event) => event.target.open && opened() }, el("summary", {}, title), content);
  }

  async refresh() {
    const job = await api(`api/jobs/${this.job}`);
    const key = JSON.stringify(job);
    if (key !== this.seen) {
      this.seen = key;
      this.drawHead(job);
      await this.readCurves(job);
      if (this.log.parentElement.open) this.readLog();
    }
    return job.status === "running" || job.status === "queued";
  }

  failed(error) {
    this.message.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
  }

  drawHead(job) {
    const facts = [
      job.total_steps ? [job.kind === "batch" ? "Images" : "Step", `${job.step} / ${job.total_steps}`] : null,
      job.loss ? ["Loss", job.loss.toFixed(4)] : null,
      job.seconds_per_step ? ["Pace", pace(job.seconds_per_step)] : null,
      job.eta_seconds !== null ? ["Time left", duration(job.eta_seconds)] : job.seconds ? ["Took", duration(job.seconds)] : null,
      job.subject_similarity ? ["Likeness", job.subject_similarity.toFixed(3)] : null,
      ...Object.entries(job.subject_similarities).map(([scorer, value]) => [`Likeness (${scorer})`, value.toFixed(3)]),
      job.prompt_similarity ? ["Prompt", job.prompt_similarity.toFixed(3)] : null,
    ].filter(Boolean);
    const subtitle = [job.prompt && `“${job.prompt}”`, job.method.toUpperCase(), job.base, when(job.created)].filter(Boolean).join(" · ");
    const reason = job.error ? el("p", { class: job.status === "failed" ? "message problem" : "message note", role: "status" }, job.error) : null;
    const card = this.card || (this.card = el("div", { class: "card run" }, (this.facts = el("div")), this.buttons(job)));
    if (!card.isConnected) this.head.replaceChildren(card);
    Object.assign(card.dataset, { status: job.status, name: job.name });
    const actions = this.buttons(job);
    if (card.lastChild !== actions) card.lastChild.replaceWith(actions);
    this.facts.replaceChildren(el("div", { class: "top" }, el("h2", {}, job.name), pill(job)),
      el("p", { class: "subtitle" }, subtitle), bar(job),
      el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      reason || "");
    const gone = job.status === "failed" || job.status === "interrupted";
    if (gone && !this.openedLog) {
      this.openedLog = true;
      this.log.parentElement.open = true;
    }
  }

  // The buttons stay the same while they mean the same, so that a press is never lost.
  buttons(job) {
    const key = JSON.stringify([job.can, job.wish, job.status, job.trashed, job.name]);
    if (key !== this.buttonsKey) {
      this.buttonsKey = key;
      this.bar = el("div", { class: "actions" }, this.actions(job));
    }
    return this.bar;
  }

  actions(job) {
    const can = job.can, list = [];
    const act = (title, name, how = {}) => list.push(el("button", {
      type: "button", class: how.kind || "", "data-action": name, onclick: (event) => this.act(event.target, how.run || (() => this.post(name))),
    }, title));
    if (can.use) act("Make images with it", "use", { kind: "primary", run: () => this.use(job) });
    if (can.resume) act("Resume", "resume", { kind: "primary" });
    if (can.pause) act("Pause", "pause");
    if (can.cancel) act(job.wish ? "End at once" : "Cancel", "cancel", { kind: "stop" });
    if (can.move) {
      act("Move up", "move-up", { run: () => this.post("move?to=up") });
      act("Move down", "move-down", { run: () => this.post("move?to=down") });
    }
    if (job.kind === "dreambooth") act("Duplicate", "duplicate", { run: () => this.duplicate() });
    if (can.use && job.kind === "dreambooth") act("Evaluate", "evaluate", { run: () => this.evaluate(job) });
    if (job.trashed) act("Restore", "restore");
    if (can.delete) act("Delete", "delete", { run: () => remove(job, closeJob) });
    return list;
  }

  async act(button, run) {
    button.disabled = true;
    this.message.replaceChildren();
    try {
      await run();
    } catch (error) {
      this.failed(error);
    }
    button.disabled = false;
    changed();
  }

  post(action) {
    return api(`api/jobs/${this.job}/${action}`, { method: "POST" });
  }

  async duplicate() {
    const made = await api(`api/jobs/${this.job}/duplicate`, { method: "POST", body: {} });
    openJob(made.id);
  }

  async evaluate(job) {
    const made = await api("api/jobs", { method: "POST", body: { kind: "evaluate", config: { adapter: job.id } } });
    openJob(made.id);
  }

  use(job) {
    use({ id: job.id, kind: job.kind });
  }

  async readCurves(job) {
    if (!["dreambooth", "control"].includes(job.kind)) {
      this.drawFiles(job);
      return;
    }
    const told = await api(`api/jobs/${this.job}/curves`);
    const cards = [this.lossCard(told), this.scoreCard(told)].filter(Boolean);
    this.curves.replaceChildren(...cards);
    this.results.replaceChildren(...this.samples(told));
  }

  lossCard(told) {
    const chart = lineChart({
      series: [{ name: "raw", points: told.steps }, { name: "mean", points: smoothed(told.steps) },
        { name: "validation", points: told.validation, mark: true }],
      total: told.total_steps, label: "Loss over steps",
    });
    if (!chart) return null;
    return el("figure", { class: "card" }, el("figcaption", {}, "Loss ", key("mean", "smoothed"), key("validation", "on fixed samples")), chart);
  }

  scoreCard(told) {
    const of = (name) => told.scores.filter((one) => one[name] !== null).map((one) => [one.step, one[name]]);
    const best = told.best_step;
    const chart = lineChart({
      series: [{ name: "subject", points: of("subject"), mark: true }, { name: "prompt", points: of("prompt"), mark: true }],
      total: told.total_steps, label: "Likeness and prompt similarity per checkpoint", floor: false, best,
    });
    if (!chart) return null;
    const choice = best === null ? null : el("p", { class: "quiet" }, `Recommended and used by default: step ${best}${told.best_reason ? `, the ${told.best_reason}` : ""}.`);
    return el("figure", { class: "card" }, el("figcaption", {}, "Per checkpoint ", key("subject", "like the subject"), key("prompt", "like the prompt")), chart, choice);
  }

  samples(told) {
    const rows = [...told.samples].reverse().slice(0, 12).filter((one) => one.images.length);
    if (!rows.length) return [];
    const prompts = rows[0].prompts;
    const head = el("tr", {}, el("td"), rows[0].images.map((_, place) => el("th", {}, prompts[place] || "")));
    const body = rows.map((one) => el("tr", {}, el("th", { scope: "row" }, one.step === 0 ? "Before" : `Step ${one.step}`),
      one.images.map((url, place) => el("td", {}, picture(url, one.originals[place], `Sample at step ${one.step}`)))));
    return [el("section", { class: "card pictures", id: "samples" }, el("h3", {}, "Samples"),
      el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Samples over steps" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body))))];
  }

  drawFiles(job) {
    if (job.kind === "batch") return this.drawBatch(job);
    if (job.status !== "succeeded" || !job.thumbnail) return;
    const full = `/${job.thumbnail.split("?")[0]}`;
    this.results.replaceChildren(el("section", { class: "card" }, el("h3", {}, "Result"),
      el("a", { href: full, target: "_blank" }, el("img", { class: "sheet", src: full, alt: "Contact sheet" }))));
  }

  async drawBatch(job) {
    if (!job.step) return;
    const images = await api(`api/jobs/${job.id}/images`);
    const shown = images.map((image) => el("figure", { class: "batch-image", title: `${image.prompt}, seed ${image.seed}` },
      picture(image.thumbnail, image.url, image.prompt), el("figcaption", { class: "quiet" }, `${image.prompt} · ${image.seed}`)));
    this.results.replaceChildren(el("section", { class: "card" },
      el("div", { class: "top" }, el("h3", {}, `${job.step} of ${job.total_steps} images`),
        el("div", { class: "actions small" }, el("a", { class: "button", href: `/api/jobs/${job.id}/zip`, download: "" }, "Download all"))),
      el("div", { class: "batch-grid" }, shown)));
  }

  async readLog() {
    const text = await api(`api/jobs/${this.job}/log`);
    this.log.textContent = text || "Nothing is written yet.";
    this.log.scrollTop = this.log.scrollHeight;
  }

  async readConfig() {
    const config = await api(`api/jobs/${this.job}/config`);
    const rows = Object.entries(config).filter(([, value]) => value !== null && value !== "" && JSON.stringify(value) !== "{}");
    this.config.replaceChildren(...rows.map(([name, value]) =>
      el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)))));
  }
}

function key(name, title) {
  return el("span", { class: `key ${name}` }, title);
}

export function picture(small, full, alt) {
  return el("a", { href: `/${full}`, target: "_blank" }, el("img", { src: `/${small}`, alt, loading: "lazy" }));
}

customElements.define("od-run", Run);
