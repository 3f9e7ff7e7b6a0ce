"""What a batch holds does not grow with the images that it has made."""

import gc
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from orthodiff.batch.engines.local import LocalEngine
from orthodiff.batch.run import plan_batch, run_batch
from orthodiff.cli.generate import GenerateOptions
from orthodiff.settings import validate

ROWS, COUNTS = 320, (176, 208, 240, 272, 304)
"""All counts are reached with the second of two adapters on the base."""
MOST = 1000
"""Bytes a row, the median between two counts: its record would add some 2,000 to each of them. What
is imported late, or a set that doubles, falls between two counts alone."""


@pytest.fixture
def options(tiny: Path, adapters: list[Path], tmp_path: Path) -> GenerateOptions:
    lines = [
        {"prompt": f"a dog {n}", "seed": n, "adapter": str(adapters[n % 2])} for n in range(ROWS)
    ]
    prompts = tmp_path / "rows.jsonl"
    prompts.write_text("\n".join(map(json.dumps, lines)))
    given = {
        "pretrained_model_name_or_path": str(tiny), "prompts": prompts, "batch_size": 16,
        "output_dir": tmp_path / "out", "num_inference_steps": 1, "width": 8, "height": 8,
    }  # fmt: skip
    return validate(GenerateOptions, given)


def test_what_is_held_does_not_grow(options: GenerateOptions) -> None:
    held: dict[int, tuple[int, int]] = {}
    with options.open_engine() as engine:
        assert isinstance(engine, LocalEngine)
        plan = plan_batch(options.rows()[0], engine, options.settings())

        def measure(record: object, summary) -> None:
            if summary.made in COUNTS:
                gc.collect()
                held[summary.made] = tracemalloc.get_traced_memory()[0], prompt_bytes(engine)

        tracemalloc.start()
        try:
            settings = options.settings()
            run_batch(plan, engine, settings, on_note=lambda _: None, on_result=measure)
        finally:
            tracemalloc.stop()
    growth = [
        (held[later][0] - held[earlier][0]) / (later - earlier)
        for earlier, later in pairwise(COUNTS)
    ]
    assert median(growth) < MOST
    assert len({prompts for _, prompts in held.values()}) == 1


def prompt_bytes(engine: LocalEngine) -> int:
    """What the prompts that are remembered take."""
    return sum(each.hidden.nbytes for each in engine.worker.base.prompts.values())
