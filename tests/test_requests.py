"""What somebody asks of a training or a batch while it runs, by an empty file in its folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orthodiff.batch.run import plan_batch, run_batch
from orthodiff.batch.stop_request import STOP_AFTER, StopRequest
from orthodiff.cli.generate import GenerateOptions
from orthodiff.cli.main import main
from orthodiff.settings import validate
from orthodiff.training.checkpoints.sealed import list_checkpoints
from orthodiff.training.events.log import read_events
from orthodiff.training.events.requests import RequestFolder, ask, pending_requests, request_file
from orthodiff.training.validation.validator import Validator
from tests.batches import Call, images, records
from tests.runs import make_images, train, weights
from tests.test_batch_engines import exactly_once, many, words

RARELY = {"checkpointing_steps": 1000, "validation_steps": 1000}
PROMPT = {"validation_prompt": "a photo of sks dog", "scorer": "none"}


def steps_of(folder: Path, kind: str) -> list[int]:
    events = read_events(folder / "events.jsonl")
    return [event["step"] for event in events if event["event"] == kind]


def test_a_training_saves_and_samples_when_asked_and_goes_on_to_the_same_bits(
    tiny: Path, tmp_path: Path
) -> None:
    photos, out = make_images(tmp_path / "photos"), tmp_path / "run"
    assert train(tiny, photos, tmp_path / "plain", **RARELY, **PROMPT) == 0
    out.mkdir()
    ask(out, "sample")
    ask(out, "save")
    assert train(tiny, photos, out, **RARELY, **PROMPT) == 0
    assert steps_of(out, "Saved") == [1, 4]
    assert steps_of(out, "Sample") == [0, 1, 4]
    assert steps_of(out, "Scored") == [0, 1, 4]
    assert [path.name for path in list_checkpoints(out)] == ["checkpoint-1", "checkpoint-4"]
    assert (out / "samples" / "step-000001" / "00.png").is_file()
    assert pending_requests(out) == []
    assert weights(out) == weights(tmp_path / "plain")


def test_a_request_that_a_signal_cuts_off_is_answered_when_the_run_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = make_images(tmp_path / "photos"), tmp_path / "run"
    validate_step = Validator.validate

    def stopped(self: Validator, step: int, **options: Any) -> Any:
        if step:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate_step(self, step, **options)

    out.mkdir()
    ask(out, "sample")
    with monkeypatch.context() as patch:
        patch.setattr(Validator, "validate", stopped)
        assert train(tiny, photos, out, **RARELY, **PROMPT) == 128 + signal.SIGTERM
    assert pending_requests(out) == ["sample"]
    assert train(tiny, photos, out, resume_from_checkpoint="latest", **RARELY, **PROMPT) == 0
    assert steps_of(out, "Sample") == [0, 3, 4]
    assert pending_requests(out) == []


def test_a_file_that_holds_something_is_no_request(tiny: Path, tmp_path: Path) -> None:
    photos, out = make_images(tmp_path / "photos"), tmp_path / "run"
    out.mkdir()
    request_file(out, "save").write_text("mine")
    assert train(tiny, photos, out, **RARELY) == 0
    assert steps_of(out, "Saved") == [4]
    assert request_file(out, "save").read_text() == "mine"


def test_a_run_that_replaces_another_inherits_no_requests(tiny: Path, tmp_path: Path) -> None:
    photos, out = make_images(tmp_path / "photos"), tmp_path / "run"
    assert train(tiny, photos, out, max_train_steps=1) == 0
    ask(out, "save")
    assert train(tiny, photos, out, overwrite_output_dir=True, **RARELY) == 0
    assert steps_of(out, "Saved") == [4]


def test_the_folder_is_looked_into_at_most_so_often(tmp_path: Path) -> None:
    now = [10.0]
    requests = RequestFolder(tmp_path, pace=1.0, clock=lambda: now[0])
    assert requests.pending() == []
    ask(tmp_path, "save")
    now[0] += 0.9
    assert list(requests.pending()) == []
    assert list(requests.pending(at_once=True)) == ["save"]
    now[0] += 1.1
    assert list(requests.pending()) == ["save"]
    requests.answered("save")
    now[0] += 1.1
    assert list(requests.pending()) == []


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_batch_ends_after_the_image_it_is_making_and_goes_on(
    tiny: Path, adapters: list[Path], tmp_path: Path, workers: int
) -> None:
    prompts, out = many(tmp_path, 40), tmp_path / "out"
    assert main(words(tiny, prompts, tmp_path / "whole", adapters[:1])) == 0
    options = validate(
        GenerateOptions,
        {
            "pretrained_model_name_or_path": str(tiny), "prompts": prompts, "output_dir": out,
            "adapters": [str(adapters[0])], "batch_size": 4, "num_inference_steps": 2,
            "workers": workers,
        },
    )  # fmt: skip
    with options.open_engine() as engine:
        plan = plan_batch(options.rows()[0], engine, options.settings())
        summary = run_batch(
            plan, engine, options.settings(), on_note=print,
            on_result=lambda record, summary: StopRequest(out).make(),
        )  # fmt: skip
    assert summary.stopped
    assert 4 <= summary.made <= 4 * 5 * workers
    assert summary.made % 4 == 0, "the images that were being made are lost"
    assert len(images(out)) == len(records(out)) == summary.made
    assert not (out / STOP_AFTER).exists()
    assert main(words(tiny, prompts, out, adapters[:1])) == 0
    exactly_once(out, tmp_path / "whole")


def test_a_stopped_batch_says_how_it_goes_on(call: Call, tmp_path: Path) -> None:
    StopRequest(tmp_path / "out").make()
    code, printed = call()
    assert code == 130
    assert "stopped; 0 of 4 images are done. The same command goes on." in printed
    code, printed = call()
    assert code == 0
    assert len(images(tmp_path / "out")) == 4
