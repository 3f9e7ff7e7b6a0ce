// Photos people bring: dropped or chosen, sent to our own route, shown with what `check` says.

import { api, count, el, t } from "./core.js";

class Upload extends HTMLElement {
  static observedAttributes = ["subject"];

  connectedCallback() {
    if (!this.drop) this.build();
    this.load(this.getAttribute("subject"));
  }

  attributeChangedCallback(name, before, after) {
    if (this.drop && before !== after) this.load(after);
  }

  build() {
    const most = Number(this.getAttribute("most") || 50);
    this.input = el("input", {
      type: "file", multiple: most > 1, accept: this.hasAttribute("pairs") ? "image/*,.zip" : "image/*,.heic,.heif", class: "file-input",
      "aria-label": t(this.getAttribute("label") || "Add photos"), onchange: () => this.send(this.input.files),
    });
    this.drop = el("label", { class: "drop" }, this.input,
      el("b", {}, t(this.getAttribute("label") || "Drop photos here, or choose files")),
      el("span", { class: "quiet" }, t(this.getAttribute("hint") || "")));
    this.strip = el("div", { class: "thumbs", role: "list" });
    this.report = el("div", { class: "upload-report", role: "status" });
    this.tools = el("div", { class: "upload-tools" });
    this.replaceChildren(this.drop, this.tools, this.strip, this.report);
    for (const name of ["dragenter", "dragover"]) {
      this.drop.addEventListener(name, (event) => { event.preventDefault(); this.drop.classList.add("over"); });
    }
    for (const name of ["dragleave", "drop"]) {
      this.drop.addEventListener(name, (event) => { event.preventDefault(); this.drop.classList.remove("over"); });
    }
    this.drop.addEventListener("drop", (event) => this.send(event.dataTransfer.files));
  }

  async load(id) {
    if (!id) { this.draw(null); return; }
    if (this.shown?.id === id) return;
    try {
      this.draw(await api(`api/subjects/${id}`));
    } catch (error) {
      this.draw(null);
      this.refuse(error);
    }
  }

  async send(files) {
    if (!files.length) return;
    const form = new FormData();
    for (const file of files) form.append("photos", file);
    const single = Number(this.getAttribute("most") || 50) === 1;
    if (this.shown && !single) form.append("into", this.shown.id);
    this.report.replaceChildren(el("p", { class: "quiet" }, t("Sending {0} …", count(files.length, "1 file", "{0} files"))));
    this.drop.classList.add("busy");
    try {
      this.take(await api("api/subjects", { method: "POST", form }));
    } catch (error) {
      this.refuse(error);
    }
    this.drop.classList.remove("busy");
    this.input.value = "";
  }

  take(subject) {
    this.draw(subject);
    this.dispatchEvent(new CustomEvent("subject", { detail: subject, bubbles: true }));
  }

  refuse(error) {
    this.report.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
  }

  draw(subject) {
    this.shown = subject;
    const captions = this.hasAttribute("captions");
    this.tools.replaceChildren(...(captions && subject?.photos.length ? [this.switch()] : []));
    this.strip.replaceChildren(...(subject?.photos || []).map((photo) => this.photo(photo, captions)));
    if (!subject) { this.report.replaceChildren(); return; }
    const problems = subject.problems.map((text) => el("li", {}, text));
    const advice = subject.advice.map((text) => el("li", {}, text));
    this.report.replaceChildren(...(problems.length || (advice.length && !this.hasAttribute("quiet")) ? [
      el("div", { class: `message report ${problems.length ? "bad" : "good"}` },
        problems.length ? [el("b", {}, count(problems.length, "1 file cannot be used", "{0} files cannot be used")), el("ul", {}, problems)] : null,
        advice.length && !this.hasAttribute("quiet") ? el("ul", {}, advice) : null),
    ] : []));
  }

  // Between the photos as they are and as the training will cut and mask them.
  switch() {
    const box = el("input", { type: "checkbox", checked: this.seen, onchange: () => { this.seen = box.checked; this.draw(this.shown); } });
    return el("label", { class: "switch" }, box, this.hasAttribute("pairs") ? t("Show the control images") : t("Show what the training will see"));
  }

  source(photo) {
    if (!this.seen) return `/${photo.thumbnail}`;
    const value = (id) => document.querySelector(`#${id} input`)?.value.trim();
    if (this.hasAttribute("pairs")) return `/api/subjects/${this.shown.id}/control/${photo.file}?kind=${encodeURIComponent(value("train-condition_type") || "canny")}&size=320`;
    const query = new URLSearchParams({ alpha_mask: Boolean(document.querySelector("#train-alpha_mask input")?.checked) });
    if (/^\d+$/.test(value("train-resolution") || "")) query.set("resolution", value("train-resolution"));
    if (value("train-base")) query.set("base", value("train-base"));
    return `/api/subjects/${this.shown.id}/seen/${photo.file}?${query}`;
  }

  photo(photo, captions) {
    const drop = el("button", {
      type: "button", class: "remove", title: t("Remove {0}", photo.name), "aria-label": t("Remove {0}", photo.name),
      onclick: async () => this.take(await api(`api/subjects/${this.shown.id}/files/${photo.file}`, { method: "DELETE" })),
    }, "×");
    const caption = captions ? el("input", {
      value: photo.caption, placeholder: t("caption"), "aria-label": t("Caption of {0}", photo.name), maxLength: 300,
      onchange: (event) => api(`api/subjects/${this.shown.id}/captions`, { method: "POST", body: { captions: { [photo.file]: event.target.value } } }),
    }) : null;
    return el("figure", { role: "listitem", class: photo.problem ? "thumb marked" : "thumb", title: photo.problem || `${photo.name}, ${photo.width} × ${photo.height}` },
      el("img", { src: this.source(photo), alt: photo.name, loading: "lazy", class: this.seen ? "seen" : "" }), drop,
      photo.problem ? el("figcaption", {}, `⚠ ${photo.problem.replace(/^(`[^`]+`(, | and )?)+: /, "")}`) : null, caption);
  }
}

customElements.define("od-upload", Upload);
