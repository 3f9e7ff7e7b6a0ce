// The adapters there are: looked at, used, renamed, compared, exported, deleted with undo.

import { Part, api, changed, el, openJob, size, toast, use, when } from "./core.js";

const FORMATS = { adapter: "PEFT folder (zip)", lora: "LoRA (diffusers)", kohya: "LoRA (kohya, A1111)", diff: "Weight differences" };

class Library extends Part {
  begin() {
    this.list = el("div", { class: "shelf" });
    this.message = el("div", {});
    this.replaceChildren(this.message, this.list);
  }

  async refresh() {
    const entries = await api("api/adapters");
    const key = JSON.stringify(entries);
    if (key !== this.seen) {
      this.seen = key;
      const own = entries.map((entry) => this.card(entry));
      this.list.replaceChildren(...(own.length ? own : [this.empty()]));
    }
    return false;
  }

  failed(error) {
    this.message.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
  }

  empty() {
    return el("div", { class: "card empty" }, el("b", {}, "No adapter yet"), el("p", {}, "Train one under Train, or import one below. Finished trainings appear here by themselves."));
  }

  card(entry) {
    const image = entry.thumbnail ? el("img", { src: `/${entry.thumbnail}`, alt: "", loading: "lazy" }) : el("span", { class: "no-image", "aria-hidden": "true" });
    const facts = [["Base", entry.base], ["Method", entry.method.toUpperCase()], [entry.kind === "control" ? "Follows" : "Means", entry.condition || entry.trigger], ["Size", size(entry.size)],
      entry.created ? ["Made", when(entry.created)] : null].filter((fact) => fact && fact[1]);
    return el("article", { class: "card adapter", "data-name": entry.name, "data-id": entry.id }, image,
      el("div", { class: "about" }, el("h3", {}, entry.name), el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
        el("div", { class: "actions small" }, this.actions(entry))));
  }

  actions(entry) {
    const list = [el("button", {
      type: "button", class: "primary", onclick: () => use({ id: entry.id, kind: entry.kind }),
    }, "Use")];
    list.push(this.exporter(entry));
    if (entry.job) {
      list.push(el("button", { type: "button", onclick: () => openJob(entry.job) }, "Run"),
        el("button", { type: "button", onclick: () => this.rename(entry) }, "Rename"),
        el("button", { type: "button", "data-action": "delete", onclick: () => this.remove(entry) }, "Delete"));
    }
    return list;
  }

  exporter(entry) {
    return el("select", {
      class: "export", "aria-label": `Export ${entry.name}`, onchange: async (event) => {
        const format = event.target.value;
        event.target.value = "";
        if (format) await this.export(entry, format);
      },
    }, el("option", { value: "" }, "Export …"), Object.entries(FORMATS).map(([value, title]) => el("option", { value }, title)));
  }

  async export(entry, format) {
    this.message.replaceChildren(el("p", { class: "message note", role: "status" }, `Writing ${entry.name} as ${FORMATS[format]} …`));
    try {
      const made = await api(`api/adapters/${encodeURIComponent(entry.id)}/export`, { method: "POST", body: { format } });
      this.message.replaceChildren(el("p", { class: "message note", role: "status" }, `${made.name} (${size(made.size)}) is ready. `, el("a", { href: `/${made.url}`, download: made.name, class: "download" }, "Download")));
    } catch (error) {
      this.failed(error);
    }
  }

  async rename(entry) {
    const name = prompt(`New name of ${entry.name}: small letters, digits, - and _`, entry.name);
    if (!name || name === entry.name) return;
    try {
      await api(`api/jobs/${entry.job}/rename`, { method: "POST", body: { name } });
      changed();
    } catch (error) {
      this.failed(error);
    }
  }

  async remove(entry) {
    await api(`api/jobs/${entry.job}`, { method: "DELETE" });
    changed();
    toast(`${entry.name} is in the trash.`, "Undo", async () => {
      await api(`api/jobs/${entry.job}/restore`, { method: "POST" });
      changed();
    });
  }
}

customElements.define("od-library", Library);
