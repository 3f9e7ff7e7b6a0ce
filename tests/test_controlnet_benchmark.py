"""The ControlNet beside which control is measured: diffusers' own, trained by the same loop."""

from pathlib import Path

import pytest
from diffusers import ControlNetModel
from PIL import Image

from benchmarks import controlnet
from benchmarks.support.control_scores import ahead
from orthodiff.components.registry import COMPONENTS
from orthodiff.models import load_base
from pocket.painted.pairs import write_pairs
from tests.test_loop import losses


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs("canny", 6, tmp_path / "pairs", size=32)
    return tmp_path / "pairs"


def run(base: Path, data: Path, out: Path, *flags: str, **more: object) -> int:
    given = {
        "pretrained_model_name_or_path": base, "train_data_dir": data, "output_dir": out,
        "cache_dir": data / "cache", "max_train_steps": 4, "train_batch_size": 2,
        "method": "none", "learning_rate": 1e-3, "hint_learning_rate": 1e-3, **more,
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return controlnet.main([*words, *flags])


def test_a_controlnet_learns_resumes_and_paints(
    tiny: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        COMPONENTS, "_entries", dict(COMPONENTS._entries)
    )  # what a run adds is gone after the test
    assert run(tiny, pairs, tmp_path / "whole") == 0
    assert run(tiny, pairs, tmp_path / "part", max_train_steps=2) == 0
    assert run(tiny, pairs, tmp_path / "part", resume_from_checkpoint="latest") == 0
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    net = ControlNetModel.from_pretrained(tmp_path / "whole" / controlnet.NAME)
    assert net.controlnet_mid_block.weight.any()  # it starts at zero

    base, given = load_base(str(tiny)), Image.open(pairs / "maps" / "00000.png").convert("RGB")
    first = controlnet.paint(base, tmp_path / "whole", ["a cat"] * 2, [given] * 2)
    assert [image.size for image in first] == [given.size] * 2
    assert first[0].tobytes() != first[1].tobytes()  # another place, another seed

    assert run(tiny, pairs, tmp_path / "ours", controlnet.OUR_START, max_train_steps=1) == 0
    own = ControlNetModel.from_pretrained(tmp_path / "ours" / controlnet.NAME)
    embedding, default = own.controlnet_cond_embedding, net.controlnet_cond_embedding
    assert embedding.conv_in.weight.std() > 2 * default.conv_in.weight.std()


def test_ahead_is_of_pairs() -> None:
    found = ahead([0.5, 0.7, 0.9], [0.4, 0.6, 0.8])
    assert found["value"] == pytest.approx(0.1)
    assert found["low"] == pytest.approx(0.1)
    assert found["high"] == pytest.approx(0.1)
