"""What a start and a step cost with 100,000 to 5 million images: memory, seconds, microseconds.

    python -m benchmarks.data_scale --json benchmarks/results/data_scale.json

The data are synthetic: empty tars and latents of 4 x 2 x 2 numbers, so that the counts are those of
a large data set and the bytes are not. The first start
(listing, hashing and encoding) is stood in for by writing what it leaves in the cache; then a fresh
process starts as a training does: fingerprint of the place, table of images, rows of the cache,
order of an epoch, and samples by position. Each count runs in its own process, which reports its
own memory: private memory is what the process alone holds, mapped files are shared by processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orthodiff.models import Conditioning, Diffusion
from orthodiff.training.data import fingerprint
from orthodiff.training.data.captions import CaptionRules
from orthodiff.training.data.readers.records import DataRequest
from orthodiff.training.data.table import ImageFacts, ImageTable, save_table
from orthodiff.training.data.usable import table_path, usable_examples
from orthodiff.training.data.views import Views
from orthodiff.training.latents.encode import Marker
from orthodiff.training.latents.sampler import Stream
from orthodiff.training.latents.samples import EncodedSamples, StoredPrompts, StoredSamples, Stores

COUNTS = (100_000, 1_000_000, 5_000_000)
GOALS = {"private_gib": 1.0, "start_seconds": 60.0, "index_microseconds": 100.0}
SIDE, FACTOR, CAPTIONS = 16, 8, 1000
SHARD = 10_000
"""Images in a tar."""
UNIT = 64
"""Samples a step."""


@dataclass(frozen=True)
class Place:
    """Where the data and the cache of one count lie."""

    root: Path
    count: int

    @property
    def request(self) -> DataRequest:
        return DataRequest(folder=self.root / "data", caption="a dog")

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def views(self) -> Views:
        return Views(SIDE, ((SIDE, SIDE), (SIDE * 2, SIDE)), FACTOR)


def main() -> None:
    """Measure every count in a process of its own, print the table and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="images")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--folder", type=Path, help="where to write the data [a temporary folder]")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Place(options.measure, options.counts[0]))))
        return
    rows = []
    for count in options.counts:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            place = Place(Path(folder), count)
            prepared = prepare(place)
            rows.append({"images": count, **prepared, **_in_own_process(place)})
            print(_line(rows[-1]), flush=True)
    if options.json:
        figures = {"goals": GOALS, "cpu": os.cpu_count(), "torch": torch.__version__, "rows": rows}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def prepare(place: Place) -> dict[str, Any]:
    """Write the data and what a first start leaves in the cache."""
    data = place.root / "data"
    data.mkdir()
    for number in range(-(-place.count // SHARD)):
        (data / f"{number:05d}.tar").write_bytes(bytes(1024))
    begun = time.monotonic()
    table = ImageTable.of(
        ImageFacts(
            f"{number // SHARD:05d}.tar/{number:09d}.png",
            f"a photo of a dog, number {number % CAPTIONS}",
            number.to_bytes(32, "little"),
            (SIDE * (1 + number % 2), SIDE),
        )
        for number in range(place.count)
    )
    settled = fingerprint.fingerprint_of(place.request)
    path = table_path(place.cache, place.request, "False False ")
    assert settled is not None
    assert path is not None
    save_table(table, path, settled.sum)
    samples, prompts = _open(place, table)
    latents = torch.zeros(2, 4, SIDE // FACTOR, SIDE // FACTOR)
    wide = torch.zeros(2, 4, SIDE // FACTOR, SIDE * 2 // FACTOR)
    for row in range(place.count):
        facts = table[row]
        (key,) = samples.keys(facts, samples.views.of(facts.name, facts.size)).latents
        samples.stores.latents.add(key, {"latent": wide if row % 2 else latents})
    for number in range(CAPTIONS):
        key = prompts.key(f"a photo of a dog, number {number}")
        prompts.store.add(key, Conditioning(torch.zeros(1, 4, 8)).tensors())
    samples.stores.flush()
    Marker(_encoded(place), samples, prompts, autoencoder="vae").set(samples.stores)
    size = sum(file.stat().st_size for file in place.cache.rglob("*") if file.is_file())
    return {"written_seconds": round(time.monotonic() - begun, 1), "cache_gib": size / 2**30}


def measure(place: Place) -> dict[str, Any]:
    """Start as a training does when all is in the cache, and draw samples."""
    before, begun = _private(), time.monotonic()
    examples = usable_examples(place.request, cache_dir=place.cache)
    assert len(examples) == place.count
    samples, prompts = _open(place, examples.table)
    marker = Marker(_encoded(place), samples, prompts, autoencoder="vae")
    assert marker.is_valid(samples.stores)
    stream = Stream("subject", EncodedSamples(samples, CaptionRules(), prompts), 0, unit=UNIT)
    stream.index(0)
    started = time.monotonic() - begun
    index = _microseconds(stream.index, range(20_000))
    crossing = _seconds(stream.index, place.count)  # the first of the second epoch
    objective = Diffusion(torch.linspace(0.999, 0.001, 1000))
    draw = _microseconds(lambda n: stream.at(n, objective=objective), range(4000))
    return {
        "start_seconds": round(started, 2),
        "order_seconds": round(crossing, 2),
        "index_microseconds": round(index, 2),
        "sample_microseconds": round(draw, 1),
        "private_gib": round(_private(), 3),
        "before_gib": round(before, 3),
        "mapped_gib": round(_status("RssFile") / 2**20, 3),
    }


def _open(place: Place, table: ImageTable) -> tuple[StoredSamples, StoredPrompts]:
    stores = Stores.at(_encoded(place), autoencoder="vae", text_encoders="text")
    samples = StoredSamples(
        table,
        place.request,
        stores,
        views=place.views,
        captions=CaptionRules(),
        factor=FACTOR,
    )
    return samples, StoredPrompts(stores.prompts, "text")


def _encoded(place: Place) -> Path:
    return place.cache / "encoded"


def _in_own_process(place: Place) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.data_scale", "--measure", str(place.root)]
    words += ["--counts", str(place.count)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _microseconds(call: Any, positions: range) -> float:
    begun = time.perf_counter()
    for position in positions:
        call(position)
    return (time.perf_counter() - begun) / len(positions) * 1e6


def _seconds(call: Any, position: int) -> float:
    begun = time.perf_counter()
    call(position)
    return time.perf_counter() - begun


def _private() -> float:
    """GiB that this process holds for itself alone."""
    return _status("RssAnon") / 2**20


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['images']:>9,} images: start {row['start_seconds']:6.1f} s, index "
        f"{row['index_microseconds']:5.1f} us, sample {row['sample_microseconds']:6.1f} us, order "
        f"{row['order_seconds']:5.2f} s an epoch, memory {row['private_gib']:.2f} GiB private "
        f"({row['before_gib']:.2f} before) and {row['mapped_gib']:.2f} mapped"
    )


if __name__ == "__main__":
    main()
