"""Checkpoints are whole or not there."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import orthodiff
from orthodiff.components import textual_inversion as tokens
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import INCOMPLETE, components_in
from orthodiff.errors import UserError
from orthodiff.io.atomic import aside, replacing
from orthodiff.models import load_base
from orthodiff.training.checkpoints.run_dir import check_output, open_run
from orthodiff.training.checkpoints.sealed import (
    damage,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    passed_over,
    save_checkpoint,
    spread_adapter,
)


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(16, 16)


def save(folder: Path, step: int, *, limit: int | None = None) -> Path:
    adapter = orthodiff.attach(Layer(), orthodiff.HRA(rank=2), targets=["to_q"])
    state = {"adapter": adapter.state_dict(), "config": "{}"}
    return save_checkpoint(
        folder, step, adapter_set=adapter, state=state, base="base", metadata={}, limit=limit
    )


def test_sealed_checkpoint_loads_and_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save(tmp_path, step, limit=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-100"]
    newest = find_checkpoint(tmp_path, "latest")
    assert newest == tmp_path / "checkpoint-100"
    assert load_checkpoint(newest)["step"] == 100
    assert (newest / "adapter_model.safetensors").is_file()
    assert not list(tmp_path.glob(".aside"))


@pytest.mark.parametrize("harm", ["unsealed", "short", "changed"])
def test_damaged_checkpoints_are_passed_over(tmp_path: Path, harm: str) -> None:
    save(tmp_path, 5)
    bad = save(tmp_path, 10)
    state = bad / "training_state.pt"
    content = state.read_bytes()
    if harm == "unsealed":
        (bad / "manifest.json").unlink()
    elif harm == "short":
        state.write_bytes(content[:-1])
    else:
        state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert damage(bad)
    assert find_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-5"
    with pytest.raises(UserError, match="checkpoint-10"):
        load_checkpoint(bad)


def test_a_named_checkpoint_must_exist(tmp_path: Path) -> None:
    save(tmp_path, 5)
    assert find_checkpoint(tmp_path, "checkpoint-5") == tmp_path / "checkpoint-5"
    with pytest.raises(UserError, match="latest"):
        find_checkpoint(tmp_path, "checkpoint-6")


def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with pytest.raises(UserError, match="unfinished run"):
        check_output(tmp_path, resume=False, overwrite=False)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"finished run.*--overwrite_output_dir"):
        check_output(tmp_path, resume=False, overwrite=False)
    check_output(tmp_path, resume=True, overwrite=False)


def test_overwriting_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".aside" / "checkpoint-9").mkdir(parents=True)
    with open_run(tmp_path, resume=False, overwrite=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "notes.txt"]


def write_beside(place: Path) -> None:
    with replacing(place) as new:
        (new / "file").write_text(place.name)


def test_folders_written_side_by_side_leave_each_other_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "one") as new:
        write_beside(tmp_path / "two")
        (new / "file").write_text("one")
    assert {path.name: (path / "file").read_text() for path in tmp_path.iterdir()} == {
        "one": "one",
        "two": "two",
    }


def test_many_folders_are_written_at_once(tmp_path: Path) -> None:
    def write_often(name: str) -> None:
        for _ in range(300):
            with aside(tmp_path, name) as new:
                (new / "file").write_text(name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_often, "abcd"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moved_back", [False, True])
def test_what_was_killed_is_cleared_when_its_name_is_written_again(
    tmp_path: Path, moved_back: bool
) -> None:
    place, beside = tmp_path / "set", tmp_path / ".aside" / "other"
    for name in ("set", "set.before", "other"):
        (tmp_path / ".aside" / name).mkdir(parents=True)
        (tmp_path / ".aside" / name / "file").write_text(name)
    if not moved_back:
        write_beside(tmp_path / "unrelated")
        assert (beside / "file").exists()
        place.mkdir()
    with pytest.raises(RuntimeError), replacing(place):
        raise RuntimeError
    assert (place / "file").exists() == moved_back
    write_beside(place)
    assert [path.name for path in place.iterdir()] == ["file"]
    assert list((tmp_path / ".aside").iterdir()) == [beside]


def test_a_second_run_is_locked_out(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, resume=False, overwrite=False),
        pytest.raises(UserError, match="Another process"),
        open_run(tmp_path, resume=False, overwrite=False),
    ):
        pass


def test_a_manifest_of_another_shape_is_damage(tmp_path: Path) -> None:
    place = save(tmp_path, 5)
    for content in ("[]", "{}", '{"schema": 2, "files": {"a": 3}}', "no json"):
        (place / "manifest.json").write_text(content)
        assert "not finished" in (damage(place) or "")


def test_what_a_later_turn_left_damaged_costs_no_whole_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (save(tmp_path, 20) / "training_state.pt").write_bytes(b"")
    assert [told.split(":")[0] for told in passed_over(tmp_path, 5)] == ["checkpoint-20"]
    save(tmp_path, 10, limit=2)
    assert not damage(tmp_path / "checkpoint-5")
    assert find_checkpoint(tmp_path, "latest") == tmp_path / "checkpoint-10"
    assert passed_over(tmp_path, 20) == []


def adapter_set(folder: Path, tiny: Path, fill: float) -> Path:
    """A sealed checkpoint of every part that a text training learns, all its numbers alike."""
    base = load_base(str(tiny))
    targets = {"unet": (base.unet, ("to_q",)), "text_encoder": (base.texts[0].model, ("q_proj",))}
    parts = {
        name: orthodiff.attach(model, orthodiff.HRA(rank=2), targets=layers)
        for name, (model, layers) in targets.items()
    }
    whole = AdapterSet(base, {**parts, "tokens": tokens.create(base, "<sks>", vectors=1)})
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.fill_(fill)
    return save_checkpoint(folder, int(fill), adapter_set=whole, state={}, base=None, metadata={})


def fills(folder: Path) -> set[float]:
    files = [*folder.glob("*.safetensors"), *folder.glob("text_encoder/*.safetensors")]
    tensors = [tensor for file in files for tensor in load_file(file).values()]
    return {value for tensor in tensors for value in tensor.unique().tolist()}


def test_parts_that_cannot_be_exchanged_are_withdrawn(tiny: Path, tmp_path: Path) -> None:
    checkpoint = adapter_set(tmp_path, tiny, 1.0)
    (tmp_path / "adapter_model.safetensors").mkdir()
    with pytest.raises(OSError, match="adapter_model"):
        spread_adapter(checkpoint, tmp_path)
    assert not (tmp_path / ".aside").exists()
    with pytest.raises(UserError, match="has no adapter_config"):
        components_in(tmp_path)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_crash_while_parts_are_exchanged_leaves_no_mixture(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    old, new = (adapter_set(run, tiny, fill) for fill in (1.0, 2.0))
    spread_adapter(old, run)
    assert set(components_in(run)) == {"unet", "text_encoder", "tokens"}
    whole = shutil.copytree(run, tmp_path / "whole")
    seen = set()
    for moment in itertools.count():
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        child = os.fork()
        if not child:
            with dying_at(moment):
                spread_adapter(new, run)
            os._exit(0)
        survived = os.waitpid(child, 0)[1] == 0
        if (run / INCOMPLETE).exists():
            with pytest.raises(UserError, match="Continue its training"):
                components_in(run)
            with open_run(run, resume=True, overwrite=False):
                with pytest.raises(UserError, match="has no adapter_config"):
                    components_in(run)
                spread_adapter(new, run)
            seen.add("refused")
        found = fills(run)
        assert len(components_in(run)) == 3
        assert found in ({1.0}, {2.0})
        seen |= found
        if survived:
            break
    assert seen == {1.0, 2.0, "refused"}


@contextmanager
def dying_at(moment: int) -> Iterator[None]:
    """The process ends at once in the call of that number that names or removes a file."""
    calls = itertools.count()

    def deadly(default: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if next(calls) == moment:
                os._exit(9)
            return default(*given, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "unlink", "rmdir"):
            patch.setattr(os, name, deadly(getattr(os, name)))
        yield
