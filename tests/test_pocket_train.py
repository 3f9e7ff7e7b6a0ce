"""All stages of the rendered world's training on a ball, for moments, in one command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from orthodiff.evaluation.metrics.efficientnet import offline_judges
from pocket import train
from pocket.world import album as album_module
from pocket.world import quality
from pocket.world.album import open_album
from pocket.world.imagenet import CLASSES, named_share
from pocket.world.labels import WORDS
from pocket.world.models.catalogue import is_installed
from pocket.world.world import World
from tests.ball import ball_world

needs_models = pytest.mark.skipif(not is_installed(), reason="sweethome3d-furniture is missing")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return ball_world(tmp_path_factory.mktemp("views"))


def test_an_album_goes_on_where_it_stopped(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(album_module, "_CHUNK", 10)
    album = open_album(tmp_path / "album", world, count=20, size=32)
    assert album.images.shape == (20, 32, 32, 3)
    assert {card["class"] for card in album.cards} == {"ball"}
    before = np.array(album.images)
    (tmp_path / "album" / "cards.json").unlink()
    again = open_album(tmp_path / "album", world, count=20, size=32)
    assert (again.images == before).all()


def test_imagenet_s_names_are_those_of_the_world():
    assert set(CLASSES) <= set(WORDS)
    labels = torch.tensor([[850, 1], [2, 3], [5, 5]])
    assert named_share(["teddy bear", "guitar", "snowman"], labels) == 0.5
    with pytest.raises(ValueError, match="ImageNet"):
        named_share(["snowman"], labels[:1])


@needs_models
def test_another_plan_has_another_album(tmp_path: Path):
    first, second = (train.Plan(tmp_path, 1, sets=sets) for sets in ((0,), (0, 1)))
    assert first.album != second.album
    assert first.album == train.Plan(tmp_path, 99, sets=(0,)).album
    assert sum(train.SHARES.values()) == pytest.approx(1)


@pytest.mark.slow
def test_one_command_trains_all_stages_and_goes_on(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(train, "world_of", lambda plan: world)
    monkeypatch.setattr(train.Plan, "album", tmp_path / "album")
    monkeypatch.setattr(train, "SHARES", {"autoencoder": 0.02, "text": 0.02, "unet": 0.02})
    plan = train.Plan(tmp_path, 1, count=250, fresh=16)
    model = train.train(plan)
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a ball", num_inference_steps=2).images[0]
    assert image.size == (128, 128)
    _figures_are_told(model, world, tmp_path, monkeypatch)
    text_log = (tmp_path / "clip-state" / "state.pt").stat().st_mtime
    train.train(train.Plan(tmp_path, 2, count=250, fresh=16))
    state = torch.load(tmp_path / "unet-state" / "state.pt", weights_only=True)
    assert state["spent"] >= 0.02 * 2 * 60
    assert (tmp_path / "clip-state" / "state.pt").stat().st_mtime == text_log


def _figures_are_told(
    model: Path, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the weights of the offline judge are installed."""
    if not offline_judges():
        return
    monkeypatch.setattr(quality, "FRESH", 8)
    figures = quality.measure(model, world, count=12, steps=1, sheet_path=folder / "sheet.png")
    assert figures["generated_pictures"] == 12
    assert figures["reconstruction_psnr_db"] > 0
    assert 0 <= figures["efficientnet-lite0_names_generated"] <= 1
    assert set(figures["scorer_on_scenes"]) == {"class", "context", "colour", "finish"}
