// Which adapters, how strongly, at which checkpoint: a row each; and how several of them go together.

import { Part, api, asked, decimal, el, t, w } from "./core.js";

const WAYS = { compose: w("one after the other"), blend: w("blended"), each: w("each by itself") };

class Adapters extends Part {
  begin() {
    this.chosen = this.chosen || JSON.parse(this.getAttribute("value") || "[]");
    this.most = Number(this.getAttribute("most") || 3);
    this.kind = this.getAttribute("kind") || "subject";
    this.way = this.way || { combine: "compose", blend: 0.5 };
    this.onuse = (event) => this.use(event.detail);
    window.addEventListener("studio-use", this.onuse);
    this.onrecipe = (event) => { if (this.hasAttribute("combine")) this.take(event.detail); };
    window.addEventListener("studio-recipe", this.onrecipe);
    if (asked.use && (asked.use.kind === "control" ? "control" : "subject") === this.kind) this.waiting = asked.use.id;
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    window.removeEventListener("studio-use", this.onuse);
    window.removeEventListener("studio-recipe", this.onrecipe);
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

  // Recipes name adapters in a text such as "cat + dog (blend 0.3)", earlier settings by their ids.
  take(recipe) {
    if (Array.isArray(recipe.adapters)) this.fill(recipe.adapters, { combine: recipe.combine || "compose", blend: recipe.blend ?? 0.5 });
    else if (recipe.adapter) {
      const [, names, blend] = recipe.adapter.match(/^(.*?)(?: \(blend ([\d.]+)\))?$/);
      const uses = names.split(" + ").map((name) => ({ name, strength: recipe.strength }));
      this.fill(uses, blend ? { combine: "blend", blend: Number(blend) } : { combine: "compose" });
    }
  }

  fill(uses, way = {}) {
    const fitting = uses.map((use) => ({ use, entry: this.known?.find((one) => one.id === use.id || one.name === use.name) })).filter((one) => one.entry);
    this.touched = true;
    this.chosen = fitting.map(({ use, entry }) => ({
      ...fresh(entry.id), strength: use.strength ?? 1,
      checkpoint: entry.checkpoints.includes(use.checkpoint) ? use.checkpoint : "recommended",
    }));
    Object.assign(this.way, way);
    this.draw();
    this.tell();
  }

  tell() {
    const way = this.chosen.length > 1 ? { ...this.way } : { combine: "compose" };
    if (way.combine === "blend" && this.chosen.length !== 2) way.combine = "compose";
    this.dispatchEvent(new CustomEvent("adapters", { detail: { adapters: this.chosen, ...way }, bubbles: true }));
  }

  // Several adapters: applied in turn, on the way between two, or images of each.
  together() {
    if (!this.hasAttribute("combine") || this.chosen.length < 2) return null;
    const ways = Object.entries(WAYS).filter(([value]) => value !== "blend" || this.chosen.length === 2);
    const how = el("select", {
      "aria-label": t("Several adapters"), class: "way", onchange: () => { this.way.combine = how.value; this.draw(); this.tell(); },
    }, ways.map(([value, title]) => el("option", { value, selected: value === this.way.combine }, t(title))));
    const share = this.way.combine === "blend" && this.chosen.length === 2 ? this.slider(t("Share of the second"), this.way.blend, 1, (value) => { this.way.blend = value; this.tell(); }) : null;
    return el("div", { class: "adapter-row together" }, el("div", { class: "first" }, el("span", {}, t("Together")), how), share);
  }

  slider(title, value, most, changed) {
    const output = el("output", {}, decimal(value, 2));
    const range = el("input", {
      type: "range", min: 0, max: most, step: 0.05, value,
      oninput: () => { output.textContent = decimal(Number(range.value), 2); changed(Number(range.value)); },
    });
    return el("label", { class: "strength" }, el("span", {}, title), range, output);
  }

  change(place, values) {
    this.touched = true;
    Object.assign(this.chosen[place], values);
    this.tell();
  }

  draw() {
    const title = t(this.getAttribute("label") || "Adapters");
    if (!this.known.length) {
      this.replaceChildren(el("div", { class: "field-note" }, el("b", {}, title), el("p", { class: "quiet" }, t(this.getAttribute("empty") || ""))));
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
    }, this.chosen.length ? t("+ Add another adapter") : t("+ Add an adapter")) : null;
    this.replaceChildren(el("fieldset", { class: "adapters" }, el("legend", {}, title), rows, this.together(), more));
  }

  row(use, place) {
    const entry = this.known.find((one) => one.id === use.id);
    const which = el("select", {
      "aria-label": t("Adapter {0}", place + 1), class: "which",
      onchange: (event) => { this.change(place, { id: event.target.value, checkpoint: "recommended" }); this.draw(); },
    }, this.known.map((one) => el("option", { value: one.id, selected: one.id === use.id }, one.name)));
    const titles = { recommended: t("recommended"), last: t("last step") };
    const checkpoint = el("select", {
      "aria-label": t("Checkpoint of adapter {0}", place + 1), onchange: (event) => this.change(place, { checkpoint: event.target.value }),
    }, entry.checkpoints.map((name) => el("option", { value: name, selected: name === use.checkpoint }, titles[name] || t("step {0}", name))));
    const drop = this.chosen.length > 1 || this.hasAttribute("optional") || this.kind === "subject" ? el("button", {
      type: "button", class: "remove", "aria-label": t("Remove adapter {0}", place + 1),
      onclick: () => { this.touched = true; this.chosen.splice(place, 1); this.draw(); this.tell(); },
    }, "×") : null;
    const about = [entry.method.toUpperCase(), entry.base, entry.trigger && t("means “{0}”", entry.trigger), entry.condition && t("follows {0}", entry.condition)];
    const note = el("span", { class: "quiet" }, about.filter(Boolean).join(" · "));
    const strengthCell = this.kind === "control" ? null : this.slider(t("Strength"), use.strength, 1.5, (value) => this.change(place, { strength: value }));
    strengthCell?.querySelector("input").setAttribute("aria-label", t("Strength of adapter {0}", place + 1));
    return el("div", { class: "adapter-row" }, el("div", { class: "first" }, which, checkpoint, drop), strengthCell, note);
  }
}

const fresh = (id) => ({ id, strength: 1, checkpoint: "recommended" });

customElements.define("od-adapters", Adapters);
