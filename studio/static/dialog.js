// A question or a form over the page: Escape closes it, the keyboard stays inside, focus comes back.

import { el, t } from "./core.js";

let opened = 0;

// `content` gets a function that closes it; the element that is returned is shown.
export function dialog(title, content, { wide = false } = {}) {
  const heading = `studio-dialog-${(opened += 1)}`;
  const before = document.activeElement;
  const close = () => box.close();
  const box = el("dialog", { class: wide ? "studio-dialog wide" : "studio-dialog", "aria-labelledby": heading, onclose: () => { box.remove(); before?.focus?.(); } },
    el("div", { class: "top" }, el("h2", { id: heading }, title),
      el("button", { type: "button", class: "remove", "aria-label": t("Close"), onclick: close }, "×")),
    content(close));
  box.addEventListener("click", (event) => { if (event.target === box) close(); });
  document.body.append(box);
  box.showModal();
  return box;
}

// A form with one button; what `submit` refuses is told inside.
export function formDialog(title, fields, action, submit) {
  return dialog(title, (close) => {
    const message = el("div");
    const button = el("button", { type: "submit", class: "primary" }, action);
    return el("form", {
      method: "dialog", onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        message.replaceChildren(el("p", { class: "quiet", role: "status" }, t("Working …")));
        try {
          await submit();
          close();
        } catch (error) {
          message.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
          button.disabled = false;
        }
      },
    }, fields, message, el("div", { class: "actions" }, button, el("button", { type: "button", onclick: close }, t("Cancel"))));
  });
}
