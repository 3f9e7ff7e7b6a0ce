// The page's own words in the reader's language. A text is its own key; what is unknown stays English.

export const language = /^de\b/i.test(navigator.language) ? "de" : "en";
const words = language === "de" ? await (await fetch("/studio/de.json")).json() : {};
if (language === "de") document.documentElement.lang = "de";

// A text with values in the places of {0}, {1}, ...
export function t(text, ...values) {
  return (words[text] || text).replace(/\{(\d)\}/g, (_, place) => values[place] ?? "");
}

// Marks a text that is translated where it is shown.
export const w = (text) => text;

// `one` for 1, else `many` with the number in the place of {0}.
export const count = (number, one, many) => (number === 1 ? t(one) : t(many, number));

// Fixed sentences that the server writes into the page.
class Words extends HTMLElement {
  connectedCallback() {
    if (language !== "en" && !this.key) this.textContent = t((this.key = this.textContent));
  }
}

customElements.define("od-t", Words);
