// The parts of the page that Gradio does not have. They talk to the API with the page's own login.

import "./runs.js";
import "./run.js";
import "./upload.js";
import "./adapters.js";
import "./gallery.js";
import "./library.js";
import "./prompts.js";
import { changed, openJob, openTab, shownJob } from "./core.js";

window.studio = { changed, openJob, openTab };

// A part in a tab that was hidden has not looked meanwhile.
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[role=tab]")) setTimeout(() => window.dispatchEvent(new Event("studio-changed")), 60);
});

// A sentence about a field also stands beside it, and leads there.
new MutationObserver(() => {
  for (const message of document.querySelectorAll(".form-message [data-field]:not([data-placed])")) {
    message.dataset.placed = "yes";
    place(document.getElementById(message.dataset.field), message.textContent);
  }
}).observe(document.documentElement, { childList: true, subtree: true });

function place(field, sentence) {
  if (!field) return;
  field.querySelector(".field-error")?.remove();
  const note = document.createElement("p");
  note.className = "field-error";
  note.setAttribute("role", "alert");
  note.textContent = sentence;
  field.append(note);
  field.classList.add("invalid");
  const clear = () => { note.remove(); field.classList.remove("invalid"); };
  field.addEventListener("input", clear, { once: true });
  for (let fold = field.closest(".hidden, [style*='display: none']"); fold; fold = null) fold.previousElementSibling?.click();
  field.scrollIntoView({ block: "center", behavior: "smooth" });
  field.querySelector("input, textarea")?.focus({ preventScroll: true });
}

// A link to a job opens its tab, as soon as Gradio has built the tabs.
if (shownJob()) {
  const observer = new MutationObserver(() => {
    if (document.getElementById("tab-runs-button")) {
      observer.disconnect();
      openTab("runs");
    }
  });
  observer.observe(document.documentElement, { childList: true, subtree: true });
}
