"""Checkpoints are whole or not there."""

from pathlib import Path

import pytest
import torch

import orthodiff
from orthodiff.errors import UserError
from training.folder import check_output, open_run
from training.state import (
    damage,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    passed_over,
    save_checkpoint,
)


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(16, 16)


def save(folder: Path, step: int, *, limit: int | None = None) -> Path:
    adapter = orthodiff.attach(Layer(), orthodiff.HRA(rank=2), targets=["to_q"])
    state = {"adapter": adapter.state_dict(), "config": "{}"}
    return save_checkpoint(
        folder, step, learned=adapter, state=state, base="base", metadata={}, limit=limit
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
