// What all parts of the page share: requests, elements, words for numbers, one timer a part.

import { count, language, t, w } from "./words.js";

export { count, t, w };

export class Refusal extends Error {
  constructor(sentence, field) {
    super(sentence);
    this.field = field || "";
  }
}

// A request to the API. Refused ones throw the API's own sentence.
export async function api(path, { method = "GET", body, form } = {}) {
  const options = { method, headers: {}, credentials: "same-origin" };
  if (form) options.body = form;
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`/${path}`, options);
  } catch {
    throw new Refusal(t("The studio does not answer. Is it still running?"));
  }
  if (response.status === 401) location.assign(`/login${location.search}`);
  const text = await response.text();
  const isJson = (response.headers.get("content-type") || "").startsWith("application/json");
  const answer = isJson && text ? JSON.parse(text) : text;
  if (!response.ok) throw new Refusal(answer.error ? t(answer.error) : t("That did not work. Try again."), answer.field);
  return answer;
}

// An element with properties and children. Text is always text, never markup.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

export function pace(seconds) {
  if (!seconds) return "";
  return seconds < 1 ? t("{0} steps/s", decimal(1 / seconds, 1)) : t("{0} s/step", decimal(seconds, 1));
}

// A number with so many digits behind the point, or the comma.
export function decimal(number, digits) {
  return number.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function size(bytes) {
  if (bytes < 1000) return t("{0} bytes", bytes);
  for (const unit of ["kB", "MB"]) {
    bytes /= 1000;
    if (bytes < 1000) return `${decimal(bytes, 1)} ${unit}`;
  }
  return `${decimal(bytes / 1000, 1)} GB`;
}

export function when(unix) {
  const date = new Date(unix * 1000);
  const today = new Date().toDateString() === date.toDateString();
  const time = date.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
  return today ? t("today, {0}", time) : `${date.toLocaleDateString(language)}, ${time}`;
}

// A part of the page that looks again while something runs and somebody can see it: no timer else.
export class Part extends HTMLElement {
  pace = 1500;

  connectedCallback() {
    this.wake = () => this.look();
    document.addEventListener("visibilitychange", this.wake);
    window.addEventListener("focus", this.wake);
    window.addEventListener("studio-changed", this.wake);
    this.begin?.();
    this.look();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.wake);
    window.removeEventListener("focus", this.wake);
    window.removeEventListener("studio-changed", this.wake);
  }

  // `refresh` returns whether there is anything to look at again.
  async look() {
    clearTimeout(this.timer);
    if (document.hidden || !this.isConnected || this.offsetParent === null) return;
    const turn = (this.turn = (this.turn || 0) + 1);
    let again = false;
    try {
      again = await this.refresh();
    } catch (error) {
      this.failed?.(error);
      again = true;
    }
    if (turn !== this.turn) return;
    clearTimeout(this.timer);
    if (again) this.timer = setTimeout(this.wake, this.pace);
  }
}

const channel = "BroadcastChannel" in window ? new BroadcastChannel("orthodiff-studio") : null;
if (channel) channel.onmessage = () => window.dispatchEvent(new Event("studio-changed"));

// Something was started, ended or deleted here: all parts and all tabs look again.
export function changed() {
  window.dispatchEvent(new Event("studio-changed"));
  channel?.postMessage("changed");
}

export function toast(sentence, action, undo) {
  let place = document.getElementById("studio-toasts");
  if (!place) {
    place = el("div", { id: "studio-toasts", role: "status", "aria-live": "polite" });
    document.body.append(place);
  }
  const note = el("div", { class: "toast" }, el("span", {}, sentence));
  if (undo) note.append(el("button", { type: "button", onclick: () => { note.remove(); undo(); } }, action));
  place.append(note);
  setTimeout(() => note.remove(), 10000);
}

// What was asked to be used, for parts that are not built yet when it is.
export const asked = { use: null };

export function use(entry) {
  asked.use = entry;
  openTab(entry.kind === "control" ? "control" : "generate");
  window.dispatchEvent(new CustomEvent("studio-use", { detail: entry }));
}

const TABS = {
  train: w("Train"), runs: w("Runs"), generate: w("Generate"), control: w("Control"), library: w("Library"), batch: w("Batch"),
};

// Show another tab of the page. On a narrow screen Gradio keeps the last ones in a menu, by their titles.
export function openTab(name) {
  const button = document.getElementById(`tab-${name}-button`);
  if (button) {
    button.click();
    return;
  }
  document.querySelector(".overflow-menu > button")?.click();
  const item = () => [...document.querySelectorAll(".overflow-dropdown button")].find((one) => one.textContent.trim() === t(TABS[name]));
  setTimeout(() => item()?.click(), 50);
}

// Show a job in the tab for it; the address of the page then leads back to it.
export function openJob(id) {
  const address = new URL(location.href);
  address.searchParams.set("job", id);
  history.pushState({}, "", address);
  openTab("runs");
  window.dispatchEvent(new CustomEvent("studio-job", { detail: id }));
  changed();
}

export function shownJob() {
  return new URL(location.href).searchParams.get("job");
}

export function closeJob() {
  const address = new URL(location.href);
  address.searchParams.delete("job");
  history.pushState({}, "", address);
  window.dispatchEvent(new CustomEvent("studio-job", { detail: null }));
}
