"""The shipped pocket model: opens anywhere, knows its world, and learns a subject."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import orthodiff
from orthodiff.evaluation.metrics import load_scorer, subject_similarity
from orthodiff.models import load_base
from orthodiff.sampling import GenerateRequest, generate
from orthodiff.training.cli.main import main
from tests.test_world import needs_font

ROOT = Path(__file__).parent.parent
POCKET = ROOT / "assets" / "pocket"
SUBJECTS = sorted(path.parent for path in (ROOT / "assets/subjects").glob("*/subject.json"))


@pytest.fixture(scope="module")
def base():
    return load_base(str(POCKET))


def test_stays_small_and_safe():
    files = [path for path in POCKET.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 45e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".ckpt", ".pkl"}]
    assert (POCKET / "README.md").is_file()


def test_opens_with_plain_diffusers():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(POCKET)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a photo of a dog in the snow", num_inference_steps=4).images[0]
    assert image.size == (64, 64)


def test_schedule_does_not_clip_latents(base):
    assert base.scheduler.config.clip_sample is False
    assert base.scheduler.config.prediction_type == "v_prediction"


@needs_font
def test_scorer_knows_fresh_paintings():
    """The model card says 97 % and 100 % on 2,000; 200 leave three standard errors of room."""
    from transformers import CLIPModel, CLIPTokenizer

    from pocket.painted.world import paint
    from pocket.trainings.text import PromptTargets, accuracy

    scorer = CLIPModel.from_pretrained(POCKET / "scorer", dtype=torch.float32).eval()
    targets = PromptTargets(CLIPTokenizer.from_pretrained(POCKET / "scorer"))
    fresh = [paint(77, index) for index in range(200)]
    cards = [{"class": p.appearance.name, "context": p.context} for p in fresh]
    scores = accuracy(scorer, targets, np.stack([p.image for p in fresh]), cards)
    assert scores["class"] > 0.93
    assert scores["context"] > 0.97


def test_images_show_the_prompted_context(base):
    scorer = load_scorer(POCKET / "scorer")
    places = ("in the snow", "at night", "on the beach", "in the jungle", "on top of pink fabric")
    prompts = tuple(f"a photo of a cat {place}" for place in places)
    images = generate(base, GenerateRequest(prompts=prompts, seeds=(0,) * len(places)))
    named = scorer.embed_texts([f"a photo of something {place}" for place in places])
    guesses = (scorer.embed_images(images) @ named.T).argmax(-1)
    assert guesses.tolist() == list(range(len(places)))


@pytest.mark.parametrize("folder", SUBJECTS, ids=lambda folder: folder.name)
def test_example_subjects_are_complete(folder):
    card = json.loads((folder / "subject.json").read_text())
    assert {"name", "class", "caption", "instance_prompt"} <= set(card)
    assert len(list(folder.glob("*.png"))) == 5


@needs_font
def test_example_subjects_are_held_out():
    from pocket.painted.world import subject_appearance

    looks = {f"a photo of a {subject_appearance(number).phrase}" for number in range(400)}
    for folder in SUBJECTS:
        assert json.loads((folder / "subject.json").read_text())["caption"] in looks


@pytest.mark.parametrize("method", orthodiff.ADAPTERS)
def test_every_method_trains_and_merges_on_the_pocket_model(method, tmp_path, base):
    """Few steps by the real flags; adapted and merged images agree to 2/255."""
    folder = ROOT / "assets" / "subjects" / "robot"
    command = [
        "dreambooth",
        "--pretrained_model_name_or_path", str(POCKET), "--instance_data_dir", str(folder),
        "--instance_prompt", "a photo of sks robot", "--method", method,
        "--max_train_steps", "6", "--output_dir", str(tmp_path / "run"),
        "--cache_dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    assert main(command) == 0
    adapter = orthodiff.load(base.unet, tmp_path / "run")
    request = GenerateRequest.repeat("a photo of sks robot", num_images=2, num_inference_steps=8)
    attached = generate(base, request)
    adapter.merge()
    merged = generate(base, request)
    adapter.detach()
    for one, other in zip(attached, merged, strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 2


@pytest.mark.slow
def test_demo_recipe_brings_the_subject(tmp_path, base):
    """The demo's own recipe: the images come clearly closer to the subject."""
    folder = ROOT / "assets" / "subjects" / "robot"
    command = [sys.executable, "-m", "training", "dreambooth", "--config",
               str(ROOT / "configs/pocket/demo.yaml"), "--output_dir", str(tmp_path)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    scorer = load_scorer(POCKET / "scorer")
    photos = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            photos.append(image.convert("RGB"))
    places = ("in the snow", "at night", "on the beach", "in the jungle")
    scores = []
    for phrase in ("a robot", "sks robot"):
        adapter = orthodiff.load(base.unet, tmp_path) if phrase == "sks robot" else None
        prompts = tuple(f"a photo of {phrase} {place}" for place in places)
        request = GenerateRequest(prompts=prompts, seeds=(0, 1, 2, 3))
        scores.append(subject_similarity(scorer, generate(base, request), photos))
        if adapter:
            adapter.detach()
    assert scores[1] > scores[0] + 0.1
