"""A batch as one page without scripts from elsewhere: every image with what made it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from orthodiff.batch.manifest import Log, Manifest

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem;
  background: #fafaf8; color: #202124 }
#grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem }
figure { margin: 0 } img { width: 100%; background: #eee; border-radius: 4px }
figcaption { font-size: 13px; overflow-wrap: anywhere } small { color: #6e7076 }
.failed { color: #b03a2e } input { font: inherit; padding: .4rem .6rem; width: 20rem }
@media (prefers-color-scheme: dark) { body { background: #1b1c1e; color: #e6e6e3 } }
"""
SCRIPT = """
const box = document.getElementById("filter");
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\\s+/);
  for (const figure of document.querySelectorAll("figure, li"))
    figure.hidden = !words.every(word => figure.textContent.toLowerCase().includes(word));
});
"""
SHOWN = (
    ("seed", "seed"), ("num_inference_steps", "steps"), ("guidance_scale", "guidance"),
    ("sampler", "sampler"), ("strength", "strength"),
)  # fmt: skip


def page(manifest: Manifest, log: Log) -> Iterator[str]:
    """The page, piece by piece."""
    yield _head(log)
    if log.failed:
        yield from _failures(manifest.records(log.failed))
    yield '<div id="grid">\n'
    yield from map(_figure, manifest.records(log.images))
    yield f"</div>\n<script>{SCRIPT}</script></body></html>\n"


def _head(log: Log) -> str:
    base = ((log.batch or {}).get("base") or {}).get("name", "")
    count = (log.batch or {}).get("count", len(log.images))
    title = f"{len(log.images)} of {count} images"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>\n"
        f"<h1>{title}</h1>\n<p>Base model {html.escape(str(base))}. "
        f"{len(log.failed)} failed. The truth about this batch is in "
        '<a href="manifest.jsonl">manifest.jsonl</a>.</p>\n'
        '<p><input id="filter" placeholder="Show only images whose words are ..."></p>\n'
    )


def _figure(record: Mapping[str, Any]) -> str:
    row = record["row"]
    link = html.escape(quote(record["file"], errors="replace"))
    prompt = html.escape(str(row["prompt"]))
    details = [f"{label} {row[name]}" for name, label in SHOWN if name in row]
    details += [str(folder).rstrip("/").rpartition("/")[2] for folder in row.get("adapter", ())]
    return (
        f'<figure><a href="{link}"><img loading="lazy" src="{link}" alt="{prompt}"></a>'
        f"<figcaption>{prompt}<br><small>{html.escape(', '.join(details))}</small>"
        "</figcaption></figure>\n"
    )


def _failures(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "<h2>Failed</h2>\n<ul>"
    for record in records:
        yield (
            f"<li>{html.escape(str(record['row']['prompt']))}: "
            f'<span class="failed">{html.escape(record["error"])}</span></li>\n'
        )
    yield "</ul>\n"
