// One job: how far it is, its curves, scores, samples, log and settings, and all that can be done.

import { Part, api, changed, closeJob, count, decimal, duration, el, openJob, pace, t, use, w, when } from "./core.js";
import { lineChart, smoothed } from "./charts.js";
import { rotationCard } from "./rotation.js";
import { bar, pill, remove, resources } from "./runs.js";

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
    this.log.setAttribute("aria-label", t("Log"));
    this.load = el("p", { class: "quiet load" });
    const back = el("button", { type: "button", class: "link back", onclick: () => closeJob() }, t("← All runs"));
    this.turned = el("div");
    this.replaceChildren(back, this.head, this.message, this.curves, this.results, this.turned,
      this.fold(t("Log"), this.log, () => this.readLog()), this.fold(t("Settings"), this.config, () => this.readConfig()));
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
    if (job.status === "running") this.load.textContent = resources(await api("api/resources"));
    else this.load.textContent = "";
    return job.status === "running" || job.status === "queued";
  }

  failed(error) {
    this.message.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
  }

  drawHead(job) {
    const facts = [
      job.total_steps ? [job.kind === "batch" ? t("Images") : t("Step"), `${job.step} / ${job.total_steps}`] : null,
      job.loss ? [t("Loss"), decimal(job.loss, 4)] : null,
      job.seconds_per_step ? [t("Pace"), pace(job.seconds_per_step)] : null,
      job.eta_seconds !== null ? [t("Time left"), duration(job.eta_seconds)] : job.seconds ? [t("Took"), duration(job.seconds)] : null,
      job.subject_similarity ? [t("Likeness"), decimal(job.subject_similarity, 3)] : null,
      job.prompt_similarity ? [t("Prompt"), decimal(job.prompt_similarity, 3)] : null,
    ].filter(Boolean);
    const subtitle = [job.prompt && `“${job.prompt}”`, job.method.toUpperCase(), job.base, when(job.created)].filter(Boolean).join(" · ");
    const reason = job.error ? el("p", { class: job.status === "failed" ? "message problem" : "message note", role: "status" }, t(job.error)) : null;
    const card = this.card || (this.card = el("div", { class: "card run" }, (this.facts = el("div")), this.buttons(job)));
    if (!card.isConnected) this.head.replaceChildren(card);
    Object.assign(card.dataset, { status: job.status, name: job.name });
    const actions = this.buttons(job);
    if (card.lastChild !== actions) card.lastChild.replaceWith(actions);
    this.facts.replaceChildren(el("div", { class: "top" }, el("h2", {}, job.name), pill(job)),
      el("p", { class: "subtitle" }, subtitle), bar(job),
      job.stage ? el("p", { class: "quiet", role: "status" }, `${t(job.stage)} …`) : "",
      el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      this.load, reason || "");
    const gone = job.status === "failed" || job.status === "interrupted";
    if (gone && !this.openedLog) {
      this.openedLog = true;
      this.log.parentElement.open = true;
    }
  }

  // The buttons stay the same while they mean the same, so that a press is never lost.
  buttons(job) {
    const key = JSON.stringify([job.can, job.wish, job.asked, job.status, job.trashed, job.name]);
    if (key !== this.buttonsKey) {
      this.buttonsKey = key;
      this.bar = el("div", { class: "actions" }, this.actions(job));
    }
    return this.bar;
  }

  actions(job) {
    const can = job.can, list = [];
    const act = (title, name, how = {}) => list.push(el("button", {
      type: "button", class: how.kind || "", disabled: how.busy, "data-action": name, onclick: (event) => this.act(event.target, how.run || (() => this.post(name))),
    }, title));
    const asked = job.asked || [];
    if (can.use) act(t("Make images with it"), "use", { kind: "primary", run: () => this.use(job) });
    if (can.resume) act(t("Resume"), "resume", { kind: "primary" });
    if (can.sample) act(asked.includes("sample") ? t("Sampling soon …") : t("Sample now"), "sample", { busy: asked.includes("sample") });
    if (can.save) act(asked.includes("save") ? t("Saving soon …") : t("Save now"), "save", { busy: asked.includes("save") });
    if (can.pause) act(t("Pause"), "pause");
    if (can.stop_after) act(t("Stop after this image"), "stop-after");
    if (can.cancel) act(job.wish ? t("End at once") : t("Cancel"), "cancel", { kind: "stop" });
    if (can.move) {
      act(t("Move up"), "move-up", { run: () => this.post("move?to=up") });
      act(t("Move down"), "move-down", { run: () => this.post("move?to=down") });
    }
    if (job.kind === "dreambooth") act(t("Duplicate"), "duplicate", { run: () => this.duplicate() });
    if (can.use && job.kind === "dreambooth") act(t("Evaluate"), "evaluate", { run: () => this.evaluate(job) });
    if (job.trashed) act(t("Restore"), "restore");
    if (can.delete) act(t("Delete"), "delete", { run: () => remove(job, closeJob) });
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
    const cards = [this.scoreCard(told), this.lossCard(told)].filter(Boolean);
    this.curves.replaceChildren(...(cards.length ? cards : this.soon(job)));
    this.results.replaceChildren(...this.samples(told));
    await this.readRotation(job, told);
  }

  // Weights change with checkpoints only, so the map is asked for only then.
  async readRotation(job, told) {
    const key = `${told.scores.length} ${told.best_step} ${job.status} ${job.asked || ""}`;
    if (key === this.turnedKey) return;
    this.turnedKey = key;
    const card = rotationCard(await api(`api/jobs/${this.job}/rotation`));
    this.turned.replaceChildren(...(card ? [card] : []));
  }

  soon(job) {
    if (job.status !== "running" && job.status !== "queued") return [];
    const text = job.status === "queued" ? t("It starts by itself when its turn has come. You can close the page.")
      : t("Loss, samples and scores appear here after the first steps.");
    return [el("div", { class: "card empty" }, el("p", {}, text))];
  }

  lossCard(told) {
    const chart = lineChart({
      series: [{ name: "raw", points: told.steps }, { name: "mean", points: smoothed(told.steps) },
        { name: "validation", points: told.validation, mark: true }],
      total: told.total_steps, label: t("Loss over steps"),
    });
    if (!chart) return null;
    return el("figure", { class: "card" }, el("figcaption", {}, `${t("Loss")} `, key("mean", t("smoothed")), key("validation", t("on fixed samples"))), chart);
  }

  scoreCard(told) {
    const of = (name) => told.scores.filter((one) => one[name] !== null).map((one) => [one.step, one[name]]);
    const best = told.best_step;
    const chart = lineChart({
      series: [{ name: "subject", points: of("subject"), mark: true }, { name: "prompt", points: of("prompt"), mark: true }],
      total: told.total_steps, label: t("Likeness and prompt similarity per checkpoint"), floor: false, best,
    });
    if (!chart) return null;
    const reason = told.best_reason ? ` (${t(told.best_reason)})` : "";
    const choice = best === null ? null : el("p", { class: "recommended" }, el("b", {}, t("Recommended: step {0}", best)), reason, " · ", t("Generate, evaluate and export use it by default."));
    return el("figure", { class: "card", id: "scores" }, el("figcaption", {}, `${t("Per checkpoint")} `, key("subject", t("like the subject")), key("prompt", t("like the prompt"))), chart, choice);
  }

  samples(told) {
    const rows = [...told.samples].reverse().slice(0, 12).filter((one) => one.images.length);
    if (!rows.length) return [];
    const prompts = rows[0].prompts;
    const head = el("tr", {}, el("td"), rows[0].images.map((_, place) => el("th", {}, prompts[place] || "")));
    const body = rows.map((one) => el("tr", {}, el("th", { scope: "row" }, one.step === 0 ? t("Before") : t("Step {0}", one.step)),
      one.images.map((url, place) => el("td", {}, picture(url, one.originals[place], t("Sample at step {0}", one.step))))));
    return [el("section", { class: "card pictures", id: "samples" }, el("h3", {}, t("Samples")),
      el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("Samples over steps") }, el("table", {}, el("thead", {}, head), el("tbody", {}, body))))];
  }

  drawFiles(job) {
    if (job.kind === "batch") return this.drawBatch(job);
    if (job.status !== "succeeded" || !job.thumbnail) return;
    const full = `/${job.thumbnail.split("?")[0]}`;
    this.results.replaceChildren(el("section", { class: "card" }, el("h3", {}, t("Result")),
      el("a", { href: full, target: "_blank" }, el("img", { class: "sheet", src: full, alt: t("Contact sheet") }))));
  }

  async drawBatch(job) {
    if (!job.step) return;
    const images = await api(`api/jobs/${job.id}/images`);
    const shown = images.map((image) => el("figure", { class: "batch-image", title: t("{0}, seed {1}", image.prompt, image.seed) },
      picture(image.thumbnail, image.url, image.prompt), el("figcaption", { class: "quiet" }, `${image.prompt} · ${image.seed}`)));
    const sheet = job.status === "succeeded" ? el("a", { class: "button", href: `/api/jobs/${job.id}/files/out/contact_sheet.png`, download: `${job.name}.png` }, t("Contact sheet")) : null;
    const more = images.length < job.step ? el("p", { class: "quiet" }, t("The first {0} are shown. The zip has all.", images.length)) : null;
    this.results.replaceChildren(el("section", { class: "card" },
      el("div", { class: "top" }, el("h3", {}, t("{0} of {1} images", job.step, job.total_steps)),
        el("div", { class: "actions small" }, sheet, el("a", { class: "button", href: `/api/jobs/${job.id}/zip`, download: "" }, t("Download all (zip)")))),
      el("div", { class: "batch-grid" }, shown), more));
  }

  async readLog() {
    const text = await api(`api/jobs/${this.job}/log`);
    this.log.textContent = text || t("Nothing is written yet.");
    this.log.scrollTop = this.log.scrollHeight;
  }

  async readConfig() {
    const config = await api(`api/jobs/${this.job}/config`);
    const rows = Object.entries(config).filter(([, value]) => value !== null && value !== "" && JSON.stringify(value) !== "{}");
    this.config.replaceChildren(...rows.map(([name, value]) =>
      el("div", {}, el("dt", {}, t(SETTINGS[name] || name.replaceAll("_", " "))), el("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)))));
  }
}

// What settings are called on the form; others keep their own names.
const SETTINGS = {
  class_word: w("What is it?"), trigger: w("Trigger word"), prompt: w("Prompt"), preset: w("Preset"), method: w("Method"), base: w("Base model"),
  max_train_steps: w("Steps"), learning_rate: w("Learning rate"), train_batch_size: w("Batch size"), seed: w("Seed"), resolution: w("Resolution"),
  prompts: w("Prompts"), num_images: w("Images"), photos: w("Photos"), mixed_precision: w("Precision"), subject: w("Subject"),
};

function key(name, title) {
  return el("span", { class: `key ${name}` }, title);
}

export function picture(small, full, alt) {
  return el("a", { href: `/${full}`, target: "_blank" }, el("img", { src: `/${small}`, alt, loading: "lazy" }));
}

customElements.define("od-run", Run);
