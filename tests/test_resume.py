"""A run goes on from what it was made from, and from nothing else."""

from pathlib import Path

import pytest
from PIL import Image, ImageOps

from orthodiff.errors import UserError
from orthodiff.training.cli.gallery import gallery
from orthodiff.training.events.history import read_history
from tests.runs import make_images, train, weights
from tests.test_loop import losses
from tests.tiny import make_tiny

ON = {"resume_from_checkpoint": "latest", "max_train_steps": 4}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pictures")


@pytest.fixture
def begun(tiny: Path, images: Path, tmp_path: Path) -> Path:
    """A run of two steps."""
    assert train(tiny, images, tmp_path / "run", max_train_steps=2, train_batch_size=4) == 0
    return tmp_path / "run"


def refusal(capsys: pytest.CaptureFixture[str], run: Path, code: int) -> str:
    """What was said; nothing was written."""
    assert code == 2
    assert not (run / "checkpoint-4").exists()
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


def test_changed_images_are_refused_by_name(
    tiny: Path, images: Path, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (images / "1.png").read_bytes()
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    capsys.readouterr()
    ImageOps.invert(Image.open(images / "1.png")).save(images / "1.png")
    code = train(tiny, images, begun, train_batch_size=4, **ON)
    assert "`1.png` or its caption was changed" in refusal(capsys, begun, code)
    (images / "1.png").unlink()
    code = train(tiny, images, begun, train_batch_size=4, **ON)
    assert "`1.png` is gone" in refusal(capsys, begun, code)
    (images / "1.png").write_bytes(kept)
    (images / "9.png").write_bytes(kept)
    code = train(tiny, images, begun, train_batch_size=4, **ON)
    assert "`9.png` is new" in refusal(capsys, begun, code)
    assert {path: path.read_bytes() for path in before} == before


def test_changed_class_images_are_refused_by_name(
    tiny: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, run = make_images(tmp_path / "given", count=2), tmp_path / "run"
    prior = {
        "with_prior_preservation": "true",
        "class_prompt": "a photo of a dog",
        "class_data_dir": given,
        "num_class_images": 3,
    }
    assert train(tiny, images, run, max_train_steps=2, **prior) == 0
    capsys.readouterr()
    ImageOps.invert(Image.open(given / "1.png")).save(given / "1.png")
    code = train(tiny, images, run, **prior, **ON)
    told = refusal(capsys, run, code)
    assert "The class images are not those" in told
    assert "`1.png`" in told


def test_another_base_in_the_same_place_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = make_tiny(tmp_path / "base"), tmp_path / "run"
    train(base, images, run, max_train_steps=2)
    capsys.readouterr()
    _disturb(base / "vae" / "diffusion_pytorch_model.safetensors")
    code = train(base, images, run, **ON)
    assert "The base's vae is not the one" in refusal(capsys, run, code)


def test_another_number_of_samples_a_step_is_refused(
    tiny: Path, images: Path, begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    code = train(tiny, images, begun, train_batch_size=2, **ON)
    assert "This run has 2 samples a step" in refusal(capsys, begun, code)


def test_the_same_step_in_smaller_batches_and_moved_images_go_on(
    tiny: Path, images: Path, begun: Path, tmp_path: Path
) -> None:
    train(tiny, images, tmp_path / "whole", max_train_steps=4, train_batch_size=4)
    moved = images.rename(tmp_path / "moved")
    smaller = {"train_batch_size": 1, "gradient_accumulation_steps": 4}
    assert train(tiny, moved, begun, **smaller, **ON) == 0
    for (_, now), (_, before) in zip(losses(begun), losses(tmp_path / "whole"), strict=True):
        assert now == pytest.approx(before, rel=1e-4)


def test_the_same_again_goes_on_to_the_same_bits(
    tiny: Path, images: Path, begun: Path, tmp_path: Path
) -> None:
    train(tiny, images, tmp_path / "whole", max_train_steps=4, train_batch_size=4)
    assert train(tiny, images, begun, train_batch_size=4, **ON) == 0
    assert weights(begun) == weights(tmp_path / "whole")


@pytest.mark.parametrize("course", ["cosine", "linear"])
def test_a_longer_run_takes_its_own_course_from_there_on(
    tiny: Path, images: Path, tmp_path: Path, course: str
) -> None:
    flags = {"lr_scheduler": course, "lr_warmup_steps": 0, "train_batch_size": 4}
    train(tiny, images, tmp_path / "whole", max_train_steps=4, **flags)
    train(tiny, images, tmp_path / "run", max_train_steps=2, **flags)
    assert train(tiny, images, tmp_path / "run", **flags, **ON) == 0
    rates = [
        [step["learning_rate"] for step in read_history(tmp_path / name).steps]
        for name in ("whole", "run")
    ]
    assert rates[0][2:] == rates[1][2:]
    assert rates[0][1] != rates[1][1]


def test_scores_of_other_prompts_do_not_choose_the_best(
    tiny: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shown = {"validation_steps": 1, "checkpointing_steps": 1, "validation_samples": 2}
    train(tiny, images, run, max_train_steps=2, validation_prompt="a dog", **shown)
    assert train(tiny, images, run, validation_prompt="a red mug", **shown, **ON) == 0
    scores = read_history(run).scores
    found = [score["measured_on"] for score in scores]
    assert [found.index(one) for one in found] == [0, 0, 0, 3, 3]
    gallery(run, steps=(3, 4))
    with pytest.raises(UserError, match=r"no images of step 2.*other prompts.*Use 3, 4"):
        gallery(run, steps=(2, 4))


def _disturb(path: Path) -> None:
    """Change the last weight of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
