// The adapters there are: brought, looked into, used, renamed, compared, combined, exported, deleted with undo.

import { Part, api, changed, decimal, el, openJob, size, t, toast, use, w, when } from "./core.js";
import { compareDialog } from "./compare.js";
import { dialog, formDialog } from "./dialog.js";
import { rotationCard } from "./rotation.js";

const FORMATS = {
  adapter: w("PEFT folder (zip)"), lora: w("LoRA (diffusers)"), kohya: w("LoRA (kohya, A1111)"), diff: w("Weight differences"),
  merged: w("Whole model, merged (zip)"),
};
const FACTS = {
  parts: w("Parts"), tensors: w("Tensors"), parameters: w("Parameters"), rank: w("Rank"), base: w("Base"), instance_prompt: w("Training prompt"),
  method: w("Method"), steps: w("Steps"), seed: w("Seed"), resolution: w("Resolution"), learning_rate: w("Learning rate"),
};

class Library extends Part {
  begin() {
    this.picked = new Set();
    this.list = el("div", { class: "shelf" });
    this.message = el("div", {});
    this.bar = el("div", { class: "library-bar" });
    this.replaceChildren(this.bar, this.message, this.list);
  }

  async refresh() {
    const entries = await api("api/adapters");
    const key = JSON.stringify(entries);
    if (key !== this.seen) {
      this.seen = key;
      this.entries = entries;
      this.picked = new Set([...this.picked].filter((id) => entries.some((one) => one.id === id)));
      const own = entries.map((entry) => this.card(entry));
      this.list.replaceChildren(...(own.some(Boolean) ? own : [this.empty()]));
      this.drawBar();
    }
    return false;
  }

  failed(error) {
    this.message.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
  }

  say(...content) {
    this.message.replaceChildren(el("p", { class: "message note", role: "status" }, ...content));
  }

  // What can be done with those that are picked, and bringing another.
  drawBar() {
    const chosen = [...this.picked].map((id) => this.entries.find((one) => one.id === id));
    const pair = chosen.length === 2;
    const subjects = pair && chosen.every((one) => one.kind === "subject");
    const input = el("input", {
      type: "file", multiple: true, accept: ".zip,.safetensors,.json", class: "file-input", id: "adapter-files",
      onchange: () => this.bring(input.files),
    });
    const bring = el("label", { class: "button bring" }, input, t("Import an adapter"));
    for (const name of ["dragenter", "dragover"]) bring.addEventListener(name, (event) => event.preventDefault());
    bring.addEventListener("drop", (event) => { event.preventDefault(); this.bring(event.dataTransfer.files); });
    const hint = pair ? chosen.map((one) => one.name).join(" · ")
      : this.entries.length > 1 ? t("Pick two to compare or combine them.") : t("A zip, or adapter_config.json with adapter_model.safetensors, of ours or PEFT's; up to 200 MB.");
    this.bar.replaceChildren(bring,
      el("button", { type: "button", disabled: !pair, "data-action": "compare", onclick: () => compareDialog(...chosen) }, t("Compare")),
      el("button", { type: "button", disabled: !subjects, "data-action": "combine", onclick: () => this.combine(...chosen) }, t("Combine")),
      el("span", { class: "quiet" }, hint));
  }

  async bring(files) {
    if (!files.length) return;
    const form = new FormData();
    for (const file of files) form.append("files", file);
    this.say(t("Checking what you brought …"));
    try {
      const made = await api("api/adapters/import", { method: "POST", form });
      this.say(t("{0} is in the library. It fits {1}.", made.name, made.base));
      changed();
    } catch (error) {
      this.failed(error);
    }
  }

  empty() {
    return el("div", { class: "card empty" }, el("b", {}, t("No adapter yet")), el("p", {}, t("Train one under Train, or import one here. Finished trainings appear by themselves.")));
  }

  card(entry) {
    const image = entry.thumbnail ? el("img", { src: `/${entry.thumbnail}`, alt: "", loading: "lazy" }) : el("span", { class: "no-image", "aria-hidden": "true" });
    const means = entry.kind === "control" ? t("Follows") : t("Means");
    const facts = [[t("Base"), entry.base], [t("Method"), entry.method.toUpperCase()], [means, entry.condition || entry.trigger], [t("Size"), size(entry.size)],
      entry.created ? [t("Made"), when(entry.created)] : null, entry.source ? [t("From"), t(entry.source)] : null].filter((fact) => fact && fact[1]);
    const pick = el("input", {
      type: "checkbox", class: "pick", checked: this.picked.has(entry.id), "aria-label": t("Pick {0}", entry.name),
      onchange: (event) => this.pick(entry.id, event.target.checked),
    });
    return el("article", { class: "card adapter", "data-name": entry.name, "data-id": entry.id }, image,
      el("div", { class: "about" }, el("div", { class: "title" }, pick, el("h3", {}, entry.name)),
        el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
        el("div", { class: "actions small" }, this.actions(entry))));
  }

  pick(id, isPicked) {
    if (isPicked) this.picked.add(id);
    else this.picked.delete(id);
    while (this.picked.size > 2) this.picked.delete([...this.picked][0]);
    for (const box of this.list.querySelectorAll("input.pick")) box.checked = this.picked.has(box.closest("article").dataset.id);
    this.drawBar();
  }

  actions(entry) {
    const list = [el("button", {
      type: "button", class: "primary", onclick: () => use({ id: entry.id, kind: entry.kind }),
    }, t("Use"))];
    list.push(this.exporter(entry), el("button", { type: "button", "data-action": "inspect", onclick: () => this.inspect(entry) }, t("Inspect")));
    if (entry.job) {
      if (!entry.source) list.push(el("button", { type: "button", onclick: () => openJob(entry.job) }, t("Run")));
      list.push(el("button", { type: "button", "data-action": "rename", onclick: () => this.rename(entry) }, t("Rename")),
        el("button", { type: "button", "data-action": "delete", onclick: () => this.remove(entry) }, t("Delete")));
    }
    return list;
  }

  exporter(entry) {
    return el("select", {
      class: "export", "aria-label": t("Export {0}", entry.name), onchange: async (event) => {
        const format = event.target.value;
        event.target.value = "";
        if (format) await this.export(entry, format);
      },
    }, el("option", { value: "" }, t("Export …")), Object.entries(FORMATS).map(([value, title]) => el("option", { value }, t(title))));
  }

  async export(entry, format) {
    this.say(t("Writing {0} as {1} …", entry.name, t(FORMATS[format])));
    try {
      const made = await api(`api/adapters/${encodeURIComponent(entry.id)}/export`, { method: "POST", body: { format } });
      this.say(t("{0} ({1}) is ready.", made.name, size(made.size)), " ", el("a", { href: `/${made.url}`, download: made.name, class: "download" }, t("Download")));
    } catch (error) {
      this.failed(error);
    }
  }

  async inspect(entry) {
    const address = `api/adapters/${encodeURIComponent(entry.id)}`;
    try {
      const [told, turned] = await Promise.all([api(address), api(`${address}/rotation`)]);
      dialog(entry.name, () => el("div", {}, facts(told.facts), rotationCard(turned) || el("p", { class: "quiet" }, t(turned.reason))), { wide: true });
    } catch (error) {
      this.failed(error);
    }
  }

  rename(entry) {
    const name = el("input", { value: entry.name, required: true, maxLength: 60, pattern: "[a-z0-9][a-z0-9_\\-]*" });
    const field = el("label", { class: "field" }, t("New name"), name, el("small", {}, t("Small letters, digits, - and _")));
    formDialog(t("Rename {0}", entry.name), field, t("Rename"), async () => {
      await api(`api/jobs/${entry.job}/rename`, { method: "POST", body: { name: name.value } });
      changed();
    });
    name.select();
  }

  combine(first, second) {
    const name = el("input", { value: `${first.name}-${second.name}`.slice(0, 60), maxLength: 60, pattern: "[a-z0-9][a-z0-9_\\-]*" });
    const share = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.5, disabled: true, oninput: () => { shown.textContent = decimal(Number(share.value), 2); } });
    const shown = el("output", {}, decimal(0.5, 2));
    const how = el("select", { onchange: () => { share.disabled = how.value !== "blend"; } },
      el("option", { value: "compose" }, t("One after the other: {0}, then {1}", first.name, second.name)),
      el("option", { value: "blend" }, t("Blended: on the way from {0} to {1}", first.name, second.name)));
    const fields = [
      el("label", { class: "field" }, t("How"), how),
      el("label", { class: "field" }, t("Share of {0}", second.name), el("span", { class: "strength" }, share, shown)),
      el("label", { class: "field" }, t("Name"), name, el("small", {}, t("Small letters, digits, - and _"))),
    ];
    formDialog(t("Combine two adapters"), fields, t("Combine"), async () => {
      const blend = how.value === "blend" ? Number(share.value) : null;
      const made = await api("api/adapters/combine", { method: "POST", body: { adapters: [first.id, second.id], blend, name: name.value } });
      this.say(t("{0} is in the library.", made.name));
      changed();
    });
  }

  async remove(entry) {
    await api(`api/jobs/${entry.job}`, { method: "DELETE" });
    changed();
    toast(t("{0} is in the trash.", entry.name), t("Undo"), async () => {
      await api(`api/jobs/${entry.job}/restore`, { method: "POST" });
      changed();
    });
  }
}

// Names and values, with our words for those that we know.
export function facts(values) {
  return el("dl", { class: "config" }, Object.entries(values).map(([name, value]) =>
    el("div", {}, el("dt", {}, t(FACTS[name] || name.replaceAll("_", " "))), el("dd", {}, value))));
}

customElements.define("od-library", Library);
