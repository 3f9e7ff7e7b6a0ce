"""Everything learned for a base is kept and comes back as one, and diffusers reads the words."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import orthodiff
from orthodiff.components import textual_inversion as tokens
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import describe
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate
from tests.test_agreement import difference

WORD = "<sks>"
PROMPT = f"a photo of {WORD} dog"


def learn(base: Base, *, vectors: int = 2) -> AdapterSet:
    """A bundle of every part that reads prompts, and the UNet's, away from its start."""
    generator = torch.Generator().manual_seed(0)
    method = orthodiff.HRA(rank=4)
    parts = {"unet": orthodiff.attach(base.unet, method, generator=generator)}
    for text in base.texts:
        parts[text.name] = orthodiff.attach(
            text.model, method, targets=orthodiff.TEXT_ATTENTION, generator=generator
        )
    adapter_set = AdapterSet(base, {**parts, "tokens": tokens.create(base, WORD, vectors=vectors)})
    with torch.no_grad():
        for parameter in adapter_set.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return adapter_set


def paint(base: Base):
    return generate(base, GenerateRequest((PROMPT,), (7,), num_inference_steps=2))[0]


@pytest.fixture(params=["tiny", "tiny_xl"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_all_parts_come_back(folder: Path, tmp_path: Path) -> None:
    base = load_base(str(folder))
    plain = paint(base)
    adapter_set = learn(base)
    learned, state = paint(base), adapter_set.state_dict()
    adapter_set.save(tmp_path / "bundle", base=str(folder), metadata={"steps": "3"})
    adapter_set.detach()
    assert difference(paint(base), plain) == 0
    assert difference(learned, plain) > 2
    again = AdapterSet.load(base, tmp_path / "bundle")
    assert set(again.components) == {text.name for text in base.texts} | {"unet", "tokens"}
    assert difference(paint(base), learned) == 0
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    again.strength = 0.0
    halfway = base.embed("a photo of a dog").hidden
    again.detach()
    assert torch.allclose(halfway, base.embed("a photo of a dog").hidden, atol=1e-5)


@pytest.mark.parametrize("vectors", [1, 3])
def test_diffusers_reads_the_words(tiny: Path, tmp_path: Path, vectors: int) -> None:
    from diffusers import StableDiffusionPipeline

    base = load_base(str(tiny))
    word = tokens.create(base, WORD, vectors=vectors)
    word.save(tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny)
    pipeline.load_textual_inversion(tmp_path / tokens.FILE)
    wanted, _ = pipeline.encode_prompt(PROMPT, "cpu", 1, False)
    assert torch.equal(base.embed(PROMPT).hidden, wanted)


def test_diffusers_reads_the_words_of_xl(tiny_xl: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    base = load_base(str(tiny_xl))
    tokens.create(base, WORD, vectors=2).save(tmp_path)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl)
    found = load_file(tmp_path / tokens.FILE)
    pairs = (
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    )
    for key, encoder, tokenizer in pairs:
        pipeline.load_textual_inversion(
            found[key], token=WORD, text_encoder=encoder, tokenizer=tokenizer
        )
    hidden, _, pooled, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    assert torch.equal(base.embed(PROMPT).hidden, hidden)
    assert torch.equal(base.embed(PROMPT).pooled, pooled)


def test_only_the_new_rows_learn(tiny: Path) -> None:
    base = load_base(str(tiny))
    word = tokens.create(base, WORD, like="dog cat", vectors=3)
    base.encode_prompts([PROMPT]).hidden.sum().backward()
    (rows,) = word.parameters()
    assert rows.grad is not None
    assert rows.grad.any(dim=1).all()
    assert not any(p.requires_grad for p in base.text_encoder.parameters() if p is not rows)


def test_a_new_word_starts_like_a_known_one(tiny: Path) -> None:
    base = load_base(str(tiny))
    before = base.embed("a photo of x")
    word = tokens.create(base, WORD, like="x")
    base.prompts.clear()
    assert torch.equal(base.embed(f"a photo of {WORD}").hidden, before.hidden)
    word.detach()
    assert not base.texts[0].words


def test_inspect_says_what_there_is(tiny: Path, tmp_path: Path) -> None:
    learn(load_base(str(tiny))).save(tmp_path / "bundle", metadata={"steps": "3"})
    told = describe(tmp_path / "bundle")
    assert told["config"]["peft_type"] == "HRA"
    assert told["recipe"]["steps"] == told["text_encoder"]["recipe"]["steps"] == "3"
    assert told["tokens"] == {"placeholder_token": WORD, "vectors": 2, "widths": [32]}


def test_a_part_that_is_gone_is_removed(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    adapter_set = learn(base)
    adapter_set.save(tmp_path / "bundle")
    (tmp_path / "bundle" / "config.yaml").write_text("seed: 1")
    AdapterSet(base, {"unet": adapter_set.components["unet"]}).save(tmp_path / "bundle")
    left = sorted(path.name for path in (tmp_path / "bundle").iterdir())
    assert left == ["adapter_config.json", "adapter_model.safetensors", "config.yaml"]


@pytest.mark.parametrize("damaged", ["text_encoder/adapter_model.safetensors", tokens.FILE])
def test_damage_leaves_the_base_as_it_was(tiny: Path, tmp_path: Path, damaged: str) -> None:
    base = load_base(str(tiny))
    adapter_set = learn(base)
    adapter_set.save(tmp_path / "bundle")
    adapter_set.detach()
    (tmp_path / "bundle" / damaged).write_bytes(b"short")
    with pytest.raises(UserError, match="truncated"):
        AdapterSet.load(base, tmp_path / "bundle")
    AdapterSet(base, {"unet": orthodiff.attach(base.unet, orthodiff.HRA(rank=2))}).detach()
    assert not base.texts[0].words


def test_parts_of_another_base_are_refused(tiny: Path, tiny_xl: Path, tmp_path: Path) -> None:
    adapter_set = learn(load_base(str(tiny_xl)))
    adapter_set.save(tmp_path / "bundle")
    base = load_base(str(tiny))
    with pytest.raises(UserError, match="model"):
        AdapterSet.load(base, tmp_path / "bundle")
    with pytest.raises(UserError, match="learned with another base model"):
        tokens.load(base, tmp_path / "bundle")
    shutil.copytree(tmp_path / "bundle" / "text_encoder_2", tmp_path / "two" / "text_encoder_2")
    with pytest.raises(UserError, match="with 2 text encoders"):
        AdapterSet.load(base, tmp_path / "two")


@pytest.mark.parametrize(
    ("word", "like", "told"),
    [("two words", None, "one word"), ("a", None, "knows already"), (WORD, "", "has no words")],
)
def test_words_that_are_none(tiny: Path, word: str, like: str | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        tokens.create(load_base(str(tiny)), word, like=like)


def test_files_of_several_words_are_refused(tiny: Path, tmp_path: Path) -> None:
    save_file({"<a>": torch.zeros(1, 32), "<b>": torch.zeros(2, 32)}, tmp_path / tokens.FILE)
    with pytest.raises(UserError, match="rows of one word"):
        tokens.load(load_base(str(tiny)), tmp_path)


def test_new_words_lie_where_the_text_encoder_is(tiny: Path) -> None:
    base = load_base(str(tiny))
    rows = {text.name: torch.zeros(2, 32) for text in base.texts}
    for text in base.texts:
        text.model.to("meta")
    word = tokens.Tokens(base, WORD, rows)
    assert {row.device.type for row in word.parameters()} == {"meta"}
