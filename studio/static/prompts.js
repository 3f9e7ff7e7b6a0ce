// A file of prompts for a batch: read by the server, shown as rows, what is wrong with others said.

import { api, count, el, t } from "./core.js";

const SHOWN = 5;

class Prompts extends HTMLElement {
  connectedCallback() {
    if (this.drop) return;
    this.input = el("input", {
      type: "file", accept: ".txt,.csv,.tsv,.jsonl,.json,.yaml,.yml", class: "file-input", "aria-label": t("Prompt file"),
      onchange: () => this.send(this.input.files[0]),
    });
    this.drop = el("label", { class: "drop" }, this.input, el("b", {}, t("Drop a prompt file here, or choose one")),
      el("span", { class: "quiet" }, t("TXT, CSV, JSONL or YAML: a prompt per row, with its own seed, steps, size if you like. Its rows take the place of the prompts above.")));
    this.report = el("div", { class: "upload-report", role: "status" });
    this.replaceChildren(this.drop, this.report);
    for (const name of ["dragenter", "dragover"]) {
      this.drop.addEventListener(name, (event) => { event.preventDefault(); this.drop.classList.add("over"); });
    }
    for (const name of ["dragleave", "drop"]) {
      this.drop.addEventListener(name, (event) => { event.preventDefault(); this.drop.classList.remove("over"); });
    }
    this.drop.addEventListener("drop", (event) => this.send(event.dataTransfer.files[0]));
  }

  async send(file) {
    if (!file) return;
    const form = new FormData();
    form.append("file", file);
    this.report.replaceChildren(el("p", { class: "quiet" }, t("Reading {0} …", file.name)));
    try {
      const read = await api("api/prompts", { method: "POST", form });
      this.take(read);
    } catch (error) {
      this.take(null);
      this.report.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
    }
    this.input.value = "";
  }

  take(read) {
    this.report.replaceChildren(...(read ? [this.table(read), this.problems(read)].filter(Boolean) : []));
    const detail = read ? { rows: read.rows, lists: read.lists } : null;
    this.dispatchEvent(new CustomEvent("prompts", { detail, bubbles: true }));
  }

  table(read) {
    const names = [...new Set(read.rows.slice(0, SHOWN).flatMap((row) => Object.keys(row)))];
    const more = read.rows.length - SHOWN;
    return el("div", { class: "card prompt-rows" },
      el("div", { class: "top" }, el("b", {}, `${read.name}: ${count(read.rows.length, "1 row", "{0} rows")}, ${count(read.images, "1 image", "{0} images")}`),
        el("button", { type: "button", class: "link", "data-action": "remove", onclick: () => this.take(null) }, t("Remove"))),
      el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("Rows of the file") }, el("table", { class: "facts" },
        el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name.replaceAll("_", " "))))),
        el("tbody", {}, read.rows.slice(0, SHOWN).map((row) => el("tr", {}, names.map((name) => el("td", {}, String(row[name] ?? "")))))))),
      more > 0 ? el("p", { class: "quiet" }, t("and {0} more", more)) : null);
  }

  problems(read) {
    if (!read.problems.length) return null;
    return el("div", { class: "message report bad" }, el("b", {}, t("These rows are left out")), el("ul", {}, read.problems.map((text) => el("li", {}, text))));
  }
}

customElements.define("od-prompts", Prompts);
