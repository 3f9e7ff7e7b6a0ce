"""A sheet to draw lines on. Its value is its strokes: lists of points (x, y) from 0 to 1.

Gradio's own sketchpad sends all its layers anew with every event of the page, of which there are
several a second, and it opens with no tool in the hand.
"""

from __future__ import annotations

import gradio as gr

SHEET = """<div class="sheet">
  <canvas width="640" height="640" tabindex="0"></canvas>
  <p><button type="button" data-keep="-1"><od-t>Undo</od-t></button>
  <button type="button" data-keep="0"><od-t>Clear</od-t></button></p>
</div>"""
DRAWING = """
const sheet = () => element.querySelector("canvas");
let strokes = [], pressed = false;

const place = (event) => {
  const box = sheet().getBoundingClientRect();
  const share = (at, length) => Math.min(Math.max(at / length, 0), 1);
  return [share(event.clientX - box.left, box.width), share(event.clientY - box.top, box.height)];
};
const paint = () => {
  const pen = sheet().getContext("2d"), side = sheet().width;
  pen.clearRect(0, 0, side, side);
  Object.assign(pen, { lineWidth: 9, lineCap: "round", lineJoin: "round" });
  for (const points of strokes) {
    pen.beginPath();
    [points[0], ...points].forEach(([x, y]) => pen.lineTo(x * side, y * side));
    pen.stroke();
  }
};
const tell = () => {
  props.value = strokes.map((points) => [...points]);
  trigger("input");
  requestAnimationFrame(paint);
};
element.addEventListener("pointerdown", (event) => {
  if (event.target !== sheet()) return;
  sheet().setPointerCapture(event.pointerId);
  strokes.push([place(event)]);
  pressed = true;
  paint();
});
element.addEventListener("pointermove", (event) => {
  if (!pressed) return;
  strokes.at(-1).push(place(event));
  paint();
});
for (const end of ["pointerup", "pointercancel"])
  element.addEventListener(end, () => { if (pressed) { pressed = false; tell(); } });
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-keep]");
  if (!button) return;
  strokes = strokes.slice(0, Number(button.dataset.keep));
  tell();
});
"""


def sketchpad(*, elem_id: str) -> gr.HTML:
    """An empty sheet, square, with `input` after each stroke."""
    return gr.HTML([], html_template=SHEET, js_on_load=DRAWING, padding=False, elem_id=elem_id)
