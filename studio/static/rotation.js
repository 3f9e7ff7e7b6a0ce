// How far each adapted layer has turned: a strip of cells in the order of the model, from pale to full.

import { decimal, el, t, w } from "./core.js";

const PARTS = { down_blocks: w("down"), mid_block: w("middle"), up_blocks: w("up") };
const ANGLE = "typical";

// The block a layer stands in, and what it is there.
function place(layer) {
  const [part, number, ...rest] = layer.split(".");
  if (!(part in PARTS)) return { block: part.replaceAll("_", " "), name: [number, ...rest].join(".") };
  const isBlock = /^\d+$/.test(number);
  return { block: `${t(PARTS[part])}${isBlock ? ` ${number}` : ""}`, name: (isBlock ? rest : [number, ...rest]).join(".") };
}

export function rotationCard(turns) {
  if (!turns.layers.length) return null;
  const most = Math.max(...turns.layers.map((one) => one[ANGLE]), 1e-6);
  const rows = new Map();
  for (const one of turns.layers) {
    const { block, name } = place(one.layer);
    if (!rows.has(block)) rows.set(block, []);
    rows.get(block).push(cell(one, name, most));
  }
  const sorted = [...turns.layers].sort((a, b) => b[ANGLE] - a[ANGLE]);
  const middle = sorted[Math.floor(sorted.length / 2)];
  const summary = t("The furthest turned layer moves by {0}°, the middle one by {1}°, over {2} layers.",
    decimal(most, 1), decimal(middle[ANGLE], 1), sorted.length);
  const strip = el("div", { class: "rotation", role: "img", "aria-label": `${t("How far each layer has turned")}. ${summary}` },
    [...rows].map(([block, cells]) => el("div", { class: "rotation-row" }, el("span", { class: "quiet" }, block), el("div", { class: "cells" }, cells))));
  const scale = el("p", { class: "quiet scale" }, "0°", el("i", { "aria-hidden": "true" }), `${decimal(most, 1)}°`);
  return el("figure", { class: "card", id: "rotation" }, el("figcaption", {}, t("How far each layer has turned")), strip, scale,
    el("p", { class: "quiet" }, summary), list(sorted.slice(0, 8)));
}

function cell(one, name, most) {
  const square = el("i", { title: `${name}: ${decimal(one[ANGLE], 1)}° (${t("at most {0}°", decimal(one.largest, 1))})` });
  square.style.setProperty("--turn", (one[ANGLE] / most).toFixed(3));
  return square;
}

function list(layers) {
  return el("details", { class: "fold" }, el("summary", {}, t("The layers that turned furthest")),
    el("ol", { class: "furthest" }, layers.map((one) => el("li", {}, el("code", {}, one.layer), ` ${decimal(one[ANGLE], 1)}°`))));
}
