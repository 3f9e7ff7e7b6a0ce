// Which adapters, how strongly, at which checkpoint: a row each.

import { Part, api, asked, el } from "./core.js";

class Adapters extends Part {
  begin() {
    this.chosen = this.chosen || JSON.parse(this.getAttribute("value") || "[]");
    this.most = Number(this.getAttribute("most") || 3);
    this.kind = this.getAttribute("kind") || "subject";
    this.onuse = (event) => this.use(event.detail);
    window.addEventListener("studio-use", this.onuse);
    if (asked.use && (asked.use.kind === "control" ? "control" : "subject") === this.kind) this.waiting = asked.use.id;
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    window.removeEventListener("studio-use", this.onuse);
  }

  async refresh() {
    const every = await api("api/adapters");
    const known = every.filter((one) => this.kind === "any" || one.kind === this.kind);
    const key = JSON.stringify(known);
    if (key === this.seen) return false;
    this.seen = key;
    this.known = known;
    this.chosen = this.chosen.filter((use) => known.some((one) => one.id === use.id));
    if (this.waiting && known.some((one) => one.id === this.waiting)) {
      this.chosen = [fresh(this.waiting)];
      this.waiting = asked.use = null;
    }
    if (!this.chosen.length && known.length && !this.touched && !this.hasAttribute("optional")) this.chosen = [fresh(known[0].id)];
    this.draw();
    this.tell();
    return false;
  }

  failed(error) {
    this.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
  }

  use({ id, kind }) {
    if ((kind === "control" ? "control" : "subject") !== this.kind || this.hasAttribute("optional")) return;
    this.waiting = id;
    if (this.known?.some((one) => one.id === id)) {
      this.chosen = [fresh(id)];
      this.draw();
      this.tell();
    } else this.look();
  }

  // Recipes name adapters by their names.
  fill(names, strength) {
    const found = names.map((name) => this.known?.find((one) => one.name === name)).filter(Boolean);
    this.touched = true;
    this.chosen = found.map((one) => ({ ...fresh(one.id), strength }));
    this.draw();
    this.tell();
  }

  tell() {
    this.dispatchEvent(new CustomEvent("adapters", { detail: this.chosen, bubbles: true }));
  }

  change(place, values) {
    this.touched = true;
    Object.assign(this.chosen[place], values);
    this.tell();
  }

  draw() {
    const title = this.getAttribute("label") || "Adapters";
    if (!this.known.length) {
      this.replaceChildren(el("div", { class: "field-note" }, el("b", {}, title), el("p", { class: "quiet" }, this.getAttribute("empty") ||
        "There is no adapter yet. Train one first; until then the base model makes images by itself.")));
      return;
    }
    const rows = this.chosen.map((use, place) => this.row(use, place));
    const more = this.chosen.length < Math.min(this.most, this.known.length) ? el("button", {
      type: "button", class: "link", onclick: () => {
        const free = this.known.find((one) => !this.chosen.some((use) => use.id === one.id)) || this.known[0];
        this.touched = true;
        this.chosen.push(fresh(free.id));
        this.draw();
        this.tell();
      },
    }, this.chosen.length ? "+ Add another adapter" : "+ Add an adapter") : null;
    this.replaceChildren(el("fieldset", { class: "adapters" }, el("legend", {}, title), rows, more));
  }

  row(use, place) {
    const entry = this.known.find((one) => one.id === use.id);
    const which = el("select", {
      "aria-label": `Adapter ${place + 1}`, class: "which",
      onchange: (event) => { this.change(place, { id: event.target.value, checkpoint: "recommended" }); this.draw(); },
    }, this.known.map((one) => el("option", { value: one.id, selected: one.id === use.id }, one.name)));
    const output = el("output", {}, use.strength.toFixed(2));
    const strength = el("input", {
      type: "range", min: 0, max: 1.5, step: 0.05, value: use.strength, "aria-label": `Strength of adapter ${place + 1}`,
      oninput: (event) => { output.textContent = Number(event.target.value).toFixed(2); this.change(place, { strength: Number(event.target.value) }); },
    });
    const titles = { recommended: "recommended", last: "last step" };
    const checkpoint = el("select", {
      "aria-label": `Checkpoint of adapter ${place + 1}`, onchange: (event) => this.change(place, { checkpoint: event.target.value }),
    }, entry.checkpoints.map((name) => el("option", { value: name, selected: name === use.checkpoint }, titles[name] || `step ${name}`)));
    const drop = this.chosen.length > 1 || this.hasAttribute("optional") || this.kind === "subject" ? el("button", {
      type: "button", class: "remove", "aria-label": `Remove adapter ${place + 1}`,
      onclick: () => { this.touched = true; this.chosen.splice(place, 1); this.draw(); this.tell(); },
    }, "×") : null;
    const about = [entry.method.toUpperCase(), entry.base, entry.trigger && `means “${entry.trigger}”`, entry.condition && `follows ${entry.condition}`];
    const note = el("span", { class: "quiet" }, about.filter(Boolean).join(" · "));
    const strengthCell = this.kind === "control" ? null : el("label", { class: "strength" }, el("span", {}, "Strength"), strength, output);
    return el("div", { class: "adapter-row" }, el("div", { class: "first" }, which, checkpoint, drop), strengthCell, note);
  }
}

const fresh = (id) => ({ id, strength: 1, checkpoint: "recommended" });

customElements.define("od-adapters", Adapters);
