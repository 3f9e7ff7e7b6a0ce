// Small charts as SVG: lines over steps, with axes that say what they mean.

import { decimal, t } from "./core.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 190, LEFT = 54, RIGHT = 14, TOP = 12, BOTTOM = 26;

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// An exponential mean over about a fifteenth of the run, without a bias at its start.
export function smoothed(points) {
  const keep = 1 - 1 / Math.max(points.length / 15, 1);
  let total = 0, weight = 0;
  return points.map(([x, y]) => {
    total = keep * total + y;
    weight = keep * weight + 1;
    return [x, total / weight];
  });
}

function span(values, floor) {
  const ordered = [...values].sort((a, b) => a - b);
  const low = ordered[0], high = ordered[Math.floor(0.985 * (ordered.length - 1))];
  const air = Math.max(0.12 * (high - low), 0.04 * Math.abs(high), 1e-6);
  return [floor ? Math.max(low - air, 0) : low - air, high + air];
}

// `series`: [{name, points: [[x, y]], mark}], drawn in this order; null for too few points.
export function lineChart({ series, total, label, digits = 2, floor = true, best = null }) {
  const drawn = series.filter((one) => one.points.length);
  const every = drawn.flatMap((one) => one.points.map(([, y]) => y));
  if (every.length < 2) return null;
  const [low, high] = span(every, floor);
  const last = Math.max(total || 0, ...drawn.flatMap((one) => one.points.map(([x]) => x)), 1);
  const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / last;
  const y = (value) => {
    const share = Math.min(Math.max((value - low) / (high - low), 0), 1);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  };
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  chart.append(svg("title", {}, label), grid(low, high, last, x, y, digits));
  if (best !== null) {
    chart.append(svg("line", { class: "best", x1: x(best), x2: x(best), y1: TOP, y2: HEIGHT - BOTTOM }));
  }
  for (const one of drawn) {
    const path = one.points.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
    chart.append(svg("path", { class: one.name, d: `M${path.join("L")}` }));
    if (one.mark) {
      for (const [step, value] of one.points) {
        const dot = svg("circle", { class: one.name, cx: x(step), cy: y(value), r: step === best ? 5.5 : 3.5 });
        dot.append(svg("title", {}, t("step {0}: {1}", step, decimal(value, 3))));
        chart.append(dot);
      }
    }
  }
  return chart;
}

function grid(low, high, last, x, y, digits) {
  const group = svg("g", { class: "grid" });
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (high - low);
    group.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    group.append(svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, decimal(value, digits)));
  }
  for (const [step, anchor] of [[0, "start"], [Math.round(last / 2), "middle"], [last, "end"]]) {
    group.append(svg("text", { x: x(step), y: HEIGHT - 6, "text-anchor": anchor }, String(step)));
  }
  return group;
}
