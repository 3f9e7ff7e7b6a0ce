"""Small parts of the trainer at their edges: what is refused, kept, counted and repeated."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from orthodiff.errors import FileError
from orthodiff.training.checkpoints.intervals import Intervals
from orthodiff.training.checkpoints.sealed import MANIFEST, damage
from orthodiff.training.data.buckets import make_buckets, nearest_bucket, whole_size
from orthodiff.training.data.masks import DIM, check_bright, check_shape
from orthodiff.training.events.log import EventLog, Scored
from orthodiff.training.optim.build import make_lr_scheduler, refresh_learning_rates
from tests.test_durability import Adapter, manager, save


class TestBuckets:
    def test_sides_reach_from_the_smallest_to_the_largest(self) -> None:
        buckets = make_buckets(512, step=64, smallest=256, largest=1024, factor=8)
        assert {(256, 1024), (1024, 256), (512, 512)} <= set(buckets)
        assert min(map(min, buckets)) == 256
        narrow = make_buckets(512, step=64, smallest=256, largest=704, factor=8)
        assert max(map(max, narrow)) == 704
        assert (704, 320) in narrow

    def test_bounds_are_rounded_into_the_range(self) -> None:
        buckets = make_buckets(128, step=32, smallest=70, largest=250, factor=8)
        assert buckets == ((96, 160), (128, 128), (160, 96))

    def test_the_nearest_is_that_of_the_ratio_not_of_the_difference(self) -> None:
        assert nearest_bucket((10, 20), [(100, 100), (100, 300)]) == (100, 300)
        assert nearest_bucket((20, 10), [(100, 100), (300, 100)]) == (300, 100)

    @pytest.mark.parametrize(
        ("size", "expected"),
        [((1000, 1000), (64, 64)), ((400, 100), (128, 32)), ((5000, 10), (1432, 8))],
    )
    def test_no_side_of_an_uncut_image_vanishes(self, size: Any, expected: Any) -> None:
        assert whole_size(size, 64, step=8) == expected


class TestMasks:
    @pytest.mark.parametrize(("width", "is_fine"), [(100, True), (102, True), (103, False)])
    @pytest.mark.parametrize("is_turned", [False, True])
    def test_a_layer_has_the_images_proportions_within_two_parts_in_a_hundred(
        self, width: int, is_fine: bool, is_turned: bool
    ) -> None:
        layer = Image.new("L", (100, width) if is_turned else (width, 100))
        if is_fine:
            check_shape(layer, (1000, 1000), name="a.png", what="mask")
            return
        with pytest.raises(FileError, match=r"a\.png.*proportions"):
            check_shape(layer, (1000, 1000), name="a.png", what="mask")

    def test_half_of_white_is_bright_enough(self) -> None:
        mask = Image.new("L", (4, 4), 0)
        with pytest.raises(FileError, match="black all over"):
            check_bright("a.png", mask)
        mask.putpixel((1, 1), DIM - 1)
        with pytest.raises(FileError, match="brightest level is 127 of 255"):
            check_bright("a.png", mask)
        mask.putpixel((1, 1), DIM)
        check_bright("a.png", mask)


@pytest.mark.parametrize(
    ("step", "saves", "validates"),
    [(0, True, True), (2, False, False), (3, False, True), (4, True, True), (7, True, True)],
)
def test_a_run_saves_and_measures_by_its_intervals_and_at_its_end(
    step: int, saves: bool, validates: bool
) -> None:
    intervals = Intervals(checkpointing_steps=4, validation_steps=3, last_step=7)
    assert (intervals.saves(step), intervals.validates(step)) == (saves, validates)


class TestCheckpoints:
    def test_scores_count_up_to_where_a_run_goes_on(self, tmp_path: Path) -> None:
        log = EventLog(tmp_path / "events.jsonl")
        for step in (1, 2, 3):
            log(Scored(step, loss=1.0))
        kept = manager(tmp_path, lambda event: None, start_step=2).scores
        assert [score["step"] for score in kept] == [1, 2]

    def test_seconds_of_earlier_turns_are_added(self, tmp_path: Path) -> None:
        events: list[Any] = []
        manager(tmp_path, events.append, seconds_before=1000.0).save(3, Adapter(), {})
        assert 1000 <= events[0].seconds < 1100

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"schema": 1}, "of version 1, not 2"),
            ({"files": {"gone.txt": {"bytes": 0}}}, "gone.txt is missing or cut short"),
            ({"files": []}, "it has no manifest"),
        ],
    )
    def test_a_manifest_of_another_kind_is_damage(
        self, tmp_path: Path, change: dict[str, Any], words: str
    ) -> None:
        checkpoint = save(tmp_path, 1)
        assert damage(checkpoint) is None
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        (checkpoint / MANIFEST).write_text(json.dumps({**manifest, **change}))
        assert words in (damage(checkpoint) or "")

    def test_a_file_of_another_length_or_content_is_damage(self, tmp_path: Path) -> None:
        checkpoint = save(tmp_path, 1)
        file = checkpoint / "control.json"
        length = file.stat().st_size
        for content, words in ((b"x" * (length - 1), "cut short"), (b"x" * length, "was changed")):
            file.write_bytes(content)
            assert words in (damage(checkpoint) or "")


def test_a_longer_run_goes_on_by_its_own_schedule() -> None:
    def scheduler_of(steps: int) -> Any:
        options: Any = SimpleNamespace(
            optimizer="adamw", lr_scheduler="linear", lr_warmup_steps=0, max_train_steps=steps,
            lr_num_cycles=1, lr_power=1.0,
        )  # fmt: skip
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return make_lr_scheduler(options, optimizer)

    short, longer = scheduler_of(4), scheduler_of(8)
    for _ in range(2):
        short.optimizer.step()
        short.step()
    longer.load_state_dict(short.state_dict())
    refresh_learning_rates(longer)
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(1 - 2 / 8)
