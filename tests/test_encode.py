"""Latents and embeddings are computed once, kept by content, and come back bit for bit."""

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from orthodiff.control import (
    Canny,
    Condition,
    Depth,
    Segmentation,
    fit,
)
from orthodiff.control import to_tensor as to_control_images
from orthodiff.errors import UserError
from orthodiff.io.hashing import content_key
from orthodiff.models import Base, load_base
from orthodiff.training.data.captions import CaptionRules
from orthodiff.training.data.control_images import check_control_image
from orthodiff.training.data.example import Example
from orthodiff.training.data.views import Views
from orthodiff.training.latents.encode import encode, image_to_tensor
from orthodiff.training.latents.samples import EncodedSamples
from orthodiff.training.latents.store import TensorStore, row_key
from tests.tiny import write_depth_model

SQUARE = Views(32, ((32, 32),), 4)


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny))


def draw_image(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def examples() -> list[Example]:
    return [Example(f"{n}.png", draw_image(n), f"sks dog, number {n}") for n in range(2)]


def encoded(
    base: Base,
    given: Sequence[Example],
    *,
    views: Views = SQUARE,
    captions: CaptionRules | None = None,
    folder: Path | None = None,
    condition: Condition | None = None,
) -> EncodedSamples:
    captions = captions or CaptionRules()
    return encode(base, given, views=views, captions=captions, folder=folder, condition=condition)


def stacked(rows: Sequence[Tensor] | Tensor | None) -> Tensor:
    assert rows is not None
    return torch.stack(list(rows))


def same(one: EncodedSamples, other: EncodedSamples) -> bool:
    latents = zip(one.samples, other.samples, strict=True)
    prompts = {prompt for sample in (*one.samples, *other.samples) for prompt in sample.prompts}
    return all(torch.equal(stacked(a.latents), stacked(b.latents)) for a, b in latents) and all(
        torch.equal(one.conditioning[p].hidden, other.conditioning[p].hidden) for p in prompts
    )


def shards(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_cached_equals_computed(base: Base, tmp_path: Path) -> None:
    fresh = encoded(base, examples())
    assert same(fresh, encoded(base, examples(), folder=tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert sorted(path.parent.name.partition("-")[0] for path in before) == [
        "complete", "latents", "prompts",
    ]  # fmt: skip
    assert same(fresh, encoded(base, examples(), folder=tmp_path))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}


def test_maps_that_a_model_computes_are_kept(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    first, other = (write_depth_model(tmp_path / f"{seed}", seed=seed) for seed in (0, 1))

    def control_images(condition: Condition, folder: Path | None = folder) -> Tensor:
        found = encoded(base, examples(), condition=condition, folder=folder)
        return torch.stack([stacked(sample.control_images) for sample in found.samples])

    fresh = control_images(Depth(model=str(first)), None)
    assert torch.equal(fresh, control_images(Depth(model=str(first))))
    assert not torch.equal(fresh, control_images(Depth(model=str(other))))
    assert not torch.equal(fresh, control_images(Depth(model=str(first), metric=True)))
    assert not torch.equal(fresh, control_images(Canny()).expand_as(fresh))
    monkeypatch.delattr(Depth, "measure")
    moved = shutil.copytree(first, tmp_path / "moved")
    assert torch.equal(fresh, control_images(Depth(model=str(moved))))


def test_what_was_read_before_does_not_matter(tiny: Path, base: Base, tmp_path: Path) -> None:
    encoded(load_base(str(tiny)), examples(), folder=tmp_path)
    kept = shards(tmp_path)
    base.texts[0].tokenizer(["a dog"], padding=True, truncation=True, max_length=5)
    encoded(base, examples(), folder=tmp_path)
    assert shards(tmp_path) == kept


@pytest.mark.parametrize("harm", ["truncated", "empty", "one bit", "other tensors"])
def test_damaged_cache_files_are_made_again(base: Base, tmp_path: Path, harm: str) -> None:
    fresh = encoded(base, examples())  # a mapped file must not be cut while it is read
    encoded(base, examples(), folder=tmp_path)
    whole = shards(tmp_path)
    for path, content in whole.items():
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        damaged = {"truncated": content[:-8], "empty": b"", "one bit": flipped}
        if harm == "other tensors":
            from safetensors.torch import save_file

            save_file({"foreign": torch.zeros(3)}, path)
        else:
            path.write_bytes(damaged[harm])
    assert same(fresh, encoded(base, examples(), folder=tmp_path))
    assert shards(tmp_path) == whole


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    store = TensorStore(tmp_path)
    store.add(row_key("key"), {"value": torch.ones(2)})
    with pytest.raises(OSError, match="No space"):
        store.flush()
    assert not list(tmp_path.iterdir())


def test_keys_tell_apart_what_decides_a_value(base: Base, tmp_path: Path) -> None:
    """Same bytes in another shape, another crop, and parts that only join to the same text."""
    assert content_key("a", "bc") != content_key("ab", "c")
    flat = Image.frombytes("RGB", (64, 32), draw_image(0, (32, 64)).tobytes())
    tall = [Example("a", draw_image(0, (32, 64)), "sks"), Example("b", flat, "sks")]
    shapes = Views(32, ((32, 64), (64, 32)), 4)
    found = encoded(base, tall, views=shapes, folder=tmp_path)
    assert [tuple(sample.shape) for sample in found.samples] == [(4, 16, 8), (4, 8, 16)]
    other = encoded(with_other_vocabulary(base), tall, views=shapes, folder=tmp_path)
    assert not torch.equal(found.conditioning["sks"].hidden, other.conditioning["sks"].hidden)
    assert len(shards(tmp_path)) == 4


def with_other_vocabulary(base: Base) -> Base:
    """The same weights with two letters changed for each other."""
    from transformers import CLIPTokenizer

    (text,) = base.texts
    words = dict(text.tokenizer.get_vocab())
    words["s"], words["k"] = words["k"], words["s"]
    tokenizer = CLIPTokenizer(vocab=words, merges=[], model_max_length=32)
    return replace(base, texts=(replace(text, tokenizer=tokenizer),), prompts={})


def test_a_latent_is_the_autoencoders_posterior(base: Base) -> None:
    (sample,) = encoded(base, examples()[:1]).samples
    seen = SQUARE.of("0.png", (48, 40))[0].see(draw_image(0))
    posterior = base.vae.encode(image_to_tensor(seen)[None]).latent_dist
    scale = base.vae.config.scaling_factor
    assert torch.equal(sample.latents[0][0], posterior.mean[0] * scale)
    assert torch.allclose(sample.latents[0][1], posterior.std[0] * scale)


def test_latents_do_not_depend_on_the_other_images(base: Base) -> None:
    many = encoded(base, [Example(str(n), draw_image(n), "sks dog") for n in range(5)])
    alone = encoded(base, [Example("3", draw_image(3), "sks dog")])
    assert torch.equal(many.samples[3].latents[0], alone.samples[0].latents[0])


def halves(left: int, right: int, mode: str) -> Image.Image:
    image = Image.new(mode, (64, 32), (left,) * 3 if mode == "RGB" else left)
    image.paste((right,) * 3 if mode == "RGB" else right, (32, 0, 64, 32))
    return image


def test_condition_and_mask_are_cut_and_mirrored_like_the_image(base: Base) -> None:
    """All three show the same halves, and so must every view of them."""
    views = Views(32, ((32, 32),), 4, crop="random", count=5, flip=True)
    example = Example(
        "a",
        halves(0, 255, "RGB"),
        "sks",
        mask=halves(0, 255, "L"),
        control_image=halves(0, 255, "RGB"),
    )
    (sample,) = encoded(base, [example], views=views, condition=Depth()).samples
    assert sample.control_images is not None
    assert sample.masks is not None
    assert len(sample.views) == 10
    assert sample.control_images[0].dtype == torch.uint8
    for number, view in enumerate(sample.views):
        seen = (image_to_tensor(view.see(example.image)) + 1) / 2
        condition = sample.control_images[number] / 255
        assert (seen - condition).abs().mean() < 0.02
        # an image is cut at whole pixels: half of one, so an eighth of a latent's, may be off
        assert torch.allclose(sample.masks[number][0], pooled(condition), atol=0.125)
    first, mirrored = sample.control_images[0], sample.control_images[5]
    assert torch.equal(first.flip(2), mirrored)
    assert not torch.equal(first, mirrored)


def pooled(condition: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(condition[:1], 4)[0]


class Inverted(Depth):
    """A control image that any image has."""

    def compute(self, image: Image.Image) -> Image.Image:
        return Image.eval(image, lambda level: 255 - level)


def test_conditions_are_made_from_the_image_as_it_is_seen(base: Base) -> None:
    (sample,) = encoded(base, [Example("a", draw_image(0), "sks")], condition=Inverted()).samples
    seen = SQUARE.of("a", (48, 40))[0].see(draw_image(0))
    assert sample.control_images is not None
    assert torch.equal(
        sample.control_images[0], ((1 - image_to_tensor(seen)) * 127.5).round().byte()
    )


def lines(side: int, step: int) -> Image.Image:
    """White lines of one pixel, `step` apart, on black."""
    levels = np.zeros((side, side, 3), np.uint8)
    levels[::step] = 255
    return Image.fromarray(levels)


@pytest.mark.parametrize("side", [32, 96, 256])
def test_given_maps_are_as_crisp_as_when_generating(base: Base, side: int) -> None:
    """Of the image's size or not: what is learned from is what `generate` will show."""
    condition, given = Canny(), lines(side, side // 8)
    example = Example("a", draw_image(0, (96, 96)), "sks", control_image=given)
    (sample,) = encoded(base, [example], condition=condition).samples
    assert sample.control_images is not None
    used, _ = fit(given, (32, 32), condition)
    assert torch.equal(
        sample.control_images[0] / 255, to_control_images([used])[0, :1]
    )  # grey is kept once
    assert set(stacked(sample.control_images).unique().tolist()) == {0, 255}


def test_a_segmentation_map_smaller_than_its_image_keeps_its_colours(base: Base) -> None:
    condition = Segmentation()
    labels = np.random.default_rng(0).integers(0, 150, (12, 12)).repeat(4, 0).repeat(4, 1)
    given = condition.paint(labels)
    example = Example("a", draw_image(0, (96, 96)), "sks", control_image=given)
    check_control_image(example, condition)
    (sample,) = encoded(base, [example], condition=condition).samples
    assert sample.control_images is not None
    seen = Image.fromarray(sample.control_images[0].permute(1, 2, 0).numpy())
    assert (condition.decode(seen) >= 0).all()


def test_every_prompt_that_can_come_up_is_embedded(base: Base) -> None:
    rules = CaptionRules(trigger="zwx", shuffle=True, count=3, dropout=0.5)
    prior = Example("c", draw_image(9), "a dog, any", is_prior=True)
    found = encoded(base, [*examples(), prior], captions=rules)
    prompts = {rules.choose(s.prompts, "x", n) for s in found.samples for n in range(60)}
    assert all(len(found.conditioning[prompt]) == 1 for prompt in prompts)
    with pytest.raises(KeyError):
        found.conditioning["of nobody"]
    assert "" in prompts
    assert found.samples[2].prompts == ("a dog, any",)
    assert torch.equal(found.conditioning[""].hidden, base.negative_embeds("").hidden)


def test_many_may_write_one_entry_at_once(tmp_path: Path) -> None:
    """In containers that share a cache, even the process numbers are the same."""
    gate = threading.Barrier(8)

    def write(_: int) -> Tensor:
        store = TensorStore(tmp_path)
        store.add(row_key("a"), {"a": torch.arange(20_000)})
        gate.wait()
        store.flush()
        return store[row_key("a")]["a"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(write, range(8)))
    assert all(torch.equal(one, torch.arange(20_000)) for one in found)
    assert not list(tmp_path.rglob("*.tmp"))


def test_rows_lie_in_shards_of_one_layout_and_of_limited_size(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, shard_bytes=100)
    rows = {row_key(f"{n}"): torch.full((n % 2 + 1, 4), float(n)) for n in range(20)}
    for key, row in rows.items():
        store.add(key, {"row": row, "half": row.bfloat16()})
        store.add(key, {"row": torch.zeros(1)})  # there is one already
    store.flush()
    assert len(shards(tmp_path)) > 2
    again = TensorStore(tmp_path)
    assert len(again) == 20
    for key, row in rows.items():
        assert key in again
        assert torch.equal(again[key]["row"], row)
        assert again[key]["half"].dtype == torch.bfloat16
    assert row_key("other") not in again


def test_damage_that_comes_later_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard too large to be checked at the start is checked row by row."""
    store = TensorStore(tmp_path)
    for n in range(3):
        store.add(row_key(f"{n}"), {"row": torch.full((4,), float(n))})
    store.flush()
    (path,) = shards(tmp_path)
    content = path.read_bytes()
    place = content.index(torch.full((4,), 2.0).numpy().tobytes())
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    assert row_key("2") not in TensorStore(tmp_path)
    monkeypatch.setattr("orthodiff.training.latents.store.CHECKED_AT_ONCE", 0)
    late = TensorStore(tmp_path)
    assert torch.equal(late[row_key("1")]["row"], torch.full((4,), 1.0))
    with pytest.raises(UserError, match=r"is damaged\. Remove it"):
        late[row_key("2")]
