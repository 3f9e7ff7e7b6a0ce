// Two adapters side by side: what they are, how they score, and the same prompt and seed from each.

import { api, changed, decimal, el, size, t, w } from "./core.js";
import { dialog } from "./dialog.js";
import { picture } from "./run.js";

const PACE = 700;
const ROWS = [
  [w("Base"), ({ adapter }) => adapter.base], [w("Method"), ({ adapter }) => adapter.method.toUpperCase()],
  [w("Means"), ({ adapter }) => adapter.condition || adapter.trigger], [w("Size"), ({ adapter }) => size(adapter.size)],
  [w("Parameters"), ({ facts }) => facts.parameters], [w("Rank"), ({ facts }) => facts.rank],
  [w("Likeness"), (one) => one.subject_similarity && decimal(one.subject_similarity, 3)],
  [w("Prompt"), (one) => one.prompt_similarity && decimal(one.prompt_similarity, 3)],
];

export async function compareDialog(first, second) {
  const pair = await Promise.all([first, second].map((one) => api(`api/adapters/${encodeURIComponent(one.id)}`)));
  dialog(t("Compare {0} with {1}", first.name, second.name), () => el("div", { class: "comparison" }, table(pair), images(pair)), { wide: true });
}

function table(pair) {
  const rows = ROWS.map(([name, of]) => [t(name), ...pair.map((one) => of(one) || "–")]).filter(([, a, b]) => a !== "–" || b !== "–");
  return el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("What the two are") }, el("table", { class: "facts" },
    el("thead", {}, el("tr", {}, el("td"), pair.map(({ adapter }) => el("th", { scope: "col" }, adapter.name)))),
    el("tbody", {}, rows.map(([name, a, b]) => el("tr", { class: a === b ? "" : "differs" }, el("th", { scope: "row" }, name), el("td", {}, a), el("td", {}, b))))));
}

// Images of each by itself, from the same prompt and seed.
function images(pair) {
  if (pair.some(({ adapter }) => adapter.kind !== "subject")) return null;
  const own = pair.map(({ adapter }) => adapter.trigger).find(Boolean);
  const prompt = el("input", { value: `a photo of ${own || "a cat"} on the beach`, maxLength: 1000, required: true });
  const seed = el("input", { type: "number", value: 0, min: 0, max: 2 ** 32 - 1 });
  const place = el("div", { class: "compared" });
  const button = el("button", { type: "submit", class: "primary" }, t("Make an image of each"));
  return el("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await make(pair, prompt.value, Number(seed.value), place);
      } catch (error) {
        place.replaceChildren(el("p", { class: "message problem", role: "alert" }, error.message));
      }
      button.disabled = false;
    },
  }, el("label", { class: "field" }, t("Prompt"), prompt), el("label", { class: "field" }, t("Seed"), seed), el("div", { class: "actions" }, button), place);
}

async function make(pair, prompt, seed, place) {
  const config = { adapters: pair.map(({ adapter }) => ({ id: adapter.id })), combine: "each", prompts: [prompt], num_images: 1, seed };
  const { id } = await api("api/generate", { method: "POST", body: { config } });
  changed();
  for (;;) {
    const job = await api(`api/jobs/${id}`);
    if (job.status === "succeeded") break;
    if (job.status !== "queued" && job.status !== "running") throw new Error(job.error || t("The images were not made."));
    const share = job.total_steps ? Math.round((100 * job.step) / job.total_steps) : 0;
    place.replaceChildren(el("p", { class: "quiet", role: "status" }, t("Making images … {0} %", share)));
    await new Promise((done) => setTimeout(done, PACE));
    if (!place.isConnected) return;
  }
  const made = await api(`api/jobs/${id}/images`);
  place.replaceChildren(...made.map((image) => el("figure", {}, picture(image.url, image.url, `${image.label}: ${image.prompt}`), el("figcaption", {}, image.label))));
}
