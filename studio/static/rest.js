// Frames come every five seconds while nothing happens on the page.
//
// The bar that Gradio shows while it loads leaves a timer behind that asks for every frame for ever:
// an idle tab then costs 4 to 7 % of a core. It takes `requestAnimationFrame` as it loads, so this
// script stands before all others in the page's head.

(() => {
  const AWAKE = 3000, PACE = 5000;
  const frame = window.requestAnimationFrame.bind(window), cancel = window.cancelAnimationFrame.bind(window);
  const waiting = new Map();
  let last = performance.now(), counter = 0;

  function ask(id, callback) {
    waiting.set(id, { callback, frame: frame((time) => { waiting.delete(id); callback(time); }) });
  }

  function wake() {
    last = performance.now();
    for (const [id, one] of waiting) {
      if (one.timer === undefined) continue;
      clearTimeout(one.timer);
      ask(id, one.callback);
    }
  }

  window.requestAnimationFrame = (callback) => {
    const id = (counter += 1);
    if (performance.now() - last < AWAKE) ask(id, callback);
    else waiting.set(id, { callback, timer: setTimeout(() => ask(id, callback), PACE) });
    return id;
  };
  window.cancelAnimationFrame = (id) => {
    const one = waiting.get(id);
    waiting.delete(id);
    if (one?.timer !== undefined) clearTimeout(one.timer);
    else if (one) cancel(one.frame);
  };

  for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "scroll", "resize", "focus"]) {
    window.addEventListener(name, wake, { capture: true, passive: true });
  }
  new MutationObserver(wake).observe(document, { childList: true, subtree: true });
})();
