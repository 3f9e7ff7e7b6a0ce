"""Nothing is lost in a power cut: what reaches the disk, in which order, and what is said when.

A killed process loses nothing that it has written, so these tests look at the calls themselves.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orthodiff.io.atomic import appearing, publishing, remove, repair, replace_file
from orthodiff.training.checkpoints.manager import CheckpointManager
from orthodiff.training.checkpoints.recipe import TrainingRecipe
from orthodiff.training.checkpoints.sealed import (
    ANNOUNCING,
    EVENTS,
    damage,
    save_checkpoint,
    spread_adapter,
)
from orthodiff.training.events.log import EventLog, Failed, Finished, Saved, Scored, Step, to_json

Call = tuple[str, str]


class Adapter:
    """Saves what an adapter's folder holds."""

    def save(self, folder: Path, *, base: str, metadata: Any) -> None:
        for name in ("adapter_config.json", "adapter_model.safetensors", "control.json"):
            (folder / name).write_text(f"{base} {metadata}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Call]:
    """What the system is asked to do, in order: ("sync", path), ("to", target), ("gone", path)."""
    seen: list[Call] = []

    def short(path: Any) -> str:
        return os.path.relpath(os.fspath(path), tmp_path)

    def sync(descriptor: int, real: Any = os.fsync) -> None:
        seen.append(("sync", short(os.readlink(f"/proc/self/fd/{descriptor}"))))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, partial(_move, seen, short, getattr(os, name)))
    monkeypatch.setattr(os, "unlink", partial(_unlink, seen, short, os.unlink))
    return seen


def _move(seen: Any, short: Any, real: Any, source: Any, target: Any, **more: Any) -> None:
    seen.extend([("from", short(source)), ("to", short(target))])
    real(source, target, **more)


def _unlink(seen: Any, short: Any, real: Any, path: Any, **more: Any) -> None:
    folder = os.readlink(f"/proc/self/fd/{more['dir_fd']}") if "dir_fd" in more else "."
    real(path, **more)
    seen.append(("gone", short(Path(folder) / path)))


def save(folder: Path, step: int, **options: Any) -> Path:
    return save_checkpoint(
        folder, step, adapter_set=Adapter(), state={"step": step}, base="base", metadata={},
        **options,
    )  # fmt: skip


def test_a_checkpoint_is_on_the_disk_before_it_is_in_its_place(
    tmp_path: Path, calls: list[Call]
) -> None:
    (tmp_path / EVENTS).write_text("")
    save(tmp_path, 1)
    placed = calls.index(("to", "checkpoint-1"))
    before, after = calls[:placed], calls[placed:]
    files = {path.name for path in (tmp_path / "checkpoint-1").iterdir()}
    assert {"manifest.json", "training_state.pt", "adapter_model.safetensors"} <= files
    synced = {path for what, path in before if what == "sync"}
    assert {f".aside/checkpoint-1/{name}" for name in files} <= synced
    assert {".aside/checkpoint-1", EVENTS} <= synced
    assert ("sync", ".") in after


def test_the_earlier_one_of_the_same_step_is_moved_away_and_removed_last(
    tmp_path: Path, calls: list[Call]
) -> None:
    save(tmp_path, 1)
    calls.clear()
    save(tmp_path, 1)
    away = calls.index(("to", ".aside/checkpoint-1.before"))
    placed = calls.index(("to", "checkpoint-1"))
    assert away < placed
    assert not [path for what, path in calls[:placed] if what == "gone"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_file_is_on_the_disk_before_it_replaces_another(
    tmp_path: Path, calls: list[Call]
) -> None:
    (tmp_path / "config.yaml").write_text("old")
    replace_file(tmp_path / "config.yaml", b"new")
    placed = calls.index(("to", "config.yaml"))
    source = calls[placed - 1][1]
    assert ("sync", source) in calls[:placed]
    assert ("sync", ".") in calls[placed:]


def written(folder: Path) -> set[str]:
    """Fill a folder as an adapter set does; the names."""
    names = {"adapter_config.json", "adapter_model.safetensors", "text/adapter_config.json"}
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("new")
    return names


def synced_before(calls: list[Call], moment: int) -> set[str]:
    """The names of files that are on the disk by then."""
    return {Path(path).name for what, path in calls[:moment] if what == "sync"}


def test_a_new_folder_is_on_the_disk_before_it_appears(tmp_path: Path, calls: list[Call]) -> None:
    with publishing(tmp_path / "adapter") as new:
        names = written(new)
        assert not (tmp_path / "adapter").exists()
    placed = calls.index(("to", "adapter"))
    assert sum(what == "sync" for what, _ in calls[:placed]) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_in_a_folder_that_is_there_weights_come_first_and_others_stay(
    tmp_path: Path, calls: list[Call]
) -> None:
    place = tmp_path / "adapter"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    (place / "adapter_config.json").write_text("old")
    with publishing(place) as new:
        written(new)
        assert (place / "adapter_config.json").read_text() == "old"
    targets = [path for what, path in calls if what == "to"]
    assert targets == [
        "adapter/adapter_model.safetensors",
        "adapter/text/adapter_config.json",
        "adapter/adapter_config.json",
    ]
    first = calls.index(("to", targets[0]))
    assert {Path(path).name for path in targets} <= synced_before(calls, first)
    assert (place / "mine.txt").read_text() == "mine"
    assert (place / "adapter_config.json").read_text() == "new"


@pytest.mark.parametrize("way", [publishing, appearing])
def test_nothing_of_a_block_that_fails_is_seen(tmp_path: Path, way: Any) -> None:
    place = tmp_path / "adapter"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    with suppress(InterruptedError), way(place) as new:
        new.mkdir(exist_ok=True)
        (new / "half.txt").write_text("half")
        raise InterruptedError
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter", "mine.txt"]


def test_an_exported_folder_is_on_the_disk_before_it_takes_the_place_of_another(
    tmp_path: Path, calls: list[Call]
) -> None:
    place = tmp_path / "exported"
    place.mkdir()
    (place / "old.txt").write_text("old")
    with appearing(place) as new:
        new.mkdir()
        (new / "weights").write_text("new")
    placed = calls.index(("to", "exported"))
    assert "weights" in synced_before(calls, placed)
    assert ("from", "exported") in calls[:placed]  # moved away, and removed afterwards
    assert not [path for what, path in calls[:placed] if what == "gone"]
    assert [path.name for path in tmp_path.rglob("*")] == ["exported", "weights"]


def test_a_folder_goes_as_a_whole(tmp_path: Path, calls: list[Call]) -> None:
    place = tmp_path / "checkpoint-1"
    place.mkdir()
    for name in "abc":
        (place / name).write_text("old")
    remove(place)
    first = next(number for number, (what, _) in enumerate(calls) if what == "gone")
    assert ("to", ".aside/checkpoint-1") in calls[:first]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_there", [False, True])
def test_what_was_moved_away_comes_back_unless_the_new_one_is_in_place(
    tmp_path: Path, is_there: bool
) -> None:
    """The two moments of a replacement at which a process can be killed."""
    for name in ("best", "best.before"):
        (tmp_path / ".aside" / name).mkdir(parents=True)
        (tmp_path / ".aside" / name / "which.txt").write_text(name)
    if is_there:
        (tmp_path / ".aside" / "best").rename(tmp_path / "best")
    repair(tmp_path)
    expected = "best" if is_there else "best.before"
    assert (tmp_path / "best" / "which.txt").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_an_earlier_adapter_is_withdrawn_before_the_first_file_of_another_comes(
    tmp_path: Path, calls: list[Call]
) -> None:
    spread_adapter(save(tmp_path, 1), tmp_path)
    checkpoint = save(tmp_path, 2)
    calls.clear()
    spread_adapter(checkpoint, tmp_path)
    first = calls.index(("to", "adapter_model.safetensors"))
    assert ("gone", str(tmp_path / "adapter_config.json")) in [
        (what, str(tmp_path / path)) for what, path in calls[:first]
    ]
    assert "'steps'" not in (tmp_path / "adapter_config.json").read_text()
    assert damage(checkpoint) is None


def test_what_announces_an_adapter_comes_last(tmp_path: Path, calls: list[Call]) -> None:
    checkpoint = save(tmp_path, 1)
    calls.clear()
    spread_adapter(checkpoint, tmp_path)
    targets = [path for what, path in calls if what == "to" and (tmp_path / path).is_file()]
    assert set(targets[-2:]) == set(ANNOUNCING)
    first = calls.index(("to", targets[0]))
    synced = {Path(path).name for what, path in calls[:first] if what == "sync"}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= synced
    assert calls[-1] == ("sync", ".") or ("sync", ".") in calls[first:]


@pytest.mark.parametrize(
    ("event", "is_synced"),
    [
        (Step(1, 1.0, 1.0, 1.0, 1.0), False),
        (Scored(1, loss=1.0), True),
        (Saved(1, "checkpoint-1", 1.0), True),
        (Finished(1, 1.0), True),
        (Failed(1, "why"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_are_on_the_disk_before_anything_follows_them(
    tmp_path: Path, calls: list[Call], event: Any, is_synced: bool
) -> None:
    log = EventLog(tmp_path / EVENTS)
    calls.clear()
    log(event)
    assert (("sync", EVENTS) in calls) == is_synced
    assert (tmp_path / EVENTS).read_text().count("\n") == 1
    assert to_json(event).split(",")[0] in (tmp_path / EVENTS).read_text()


@pytest.mark.parametrize(("limit", "kept"), [(1, 2), (2, 2), (3, 3), (None, 4)])
def test_never_fewer_than_two_checkpoints_stay(
    tmp_path: Path, limit: int | None, kept: int
) -> None:
    for step in range(1, 5):
        save(tmp_path, step, limit=limit)
    left = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert left == [f"checkpoint-{step}" for step in range(5 - kept, 5)]


def manager(folder: Path, report: Any, **options: Any) -> CheckpointManager:
    recipe = TrainingRecipe({}, 0, 1e-3, 1, 32, "sum")
    given = {"config": {}, "provenance": {}, "last_step": 9, "limit": 2, **options}
    return CheckpointManager(folder, report, base="base", recipe=recipe, **given)


def test_a_checkpoint_is_announced_when_it_is_whole(tmp_path: Path) -> None:
    found = []

    def report(event: Any) -> None:
        found.append((event.path, damage(tmp_path / event.path)))

    manager(tmp_path, report).save(3, Adapter(), {})
    assert found == [("checkpoint-3", None)]


def test_the_best_checkpoint_outlives_its_turn_and_is_in_best_before_the_end_is_told(
    tmp_path: Path,
) -> None:
    told = []

    def report(event: Any) -> None:
        told.append((type(event).__name__, (tmp_path / "best").is_dir()))

    checkpoints = manager(tmp_path, report)
    for step, loss in ((1, 0.5), (2, 0.1), (3, 0.4), (4, 0.3), (9, 0.2)):
        checkpoints.save(step, Adapter(), {})
        checkpoints.add_score(Scored(step, loss=loss, loss_of="photos", measured_on="x"))
    left = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert left == ["checkpoint-2", "checkpoint-4", "checkpoint-9"]
    checkpoints.finish(samples_per_second=None)
    assert told[-1] == ("Finished", True)
    assert {name for name, has_best in told[:-1] if has_best} == set()
    best = (tmp_path / "best" / "adapter_config.json").read_text()
    assert best == (tmp_path / "checkpoint-2" / "adapter_config.json").read_text()
    assert "'steps': '2'" in best
