"""Batches are a function of (seed, step): whole epochs, any split over processes, any shapes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orthodiff.models import Conditioning, Diffusion
from orthodiff.training.data.captions import CaptionRules
from orthodiff.training.data.views import View
from orthodiff.training.latents import sampler
from orthodiff.training.latents.batches import BatchesAhead, StepBatches
from orthodiff.training.latents.sampler import (
    Batch,
    Stream,
    epoch_order,
    pack,
    step_batches,
)
from orthodiff.training.latents.samples import EncodedSamples, TrainingSample
from orthodiff.training.objective import derive
from orthodiff.training.validation.validator import fixed_batches

SHAPES = ((8, 8), (8, 4), (4, 8))
LATENT_SHAPE = st.sampled_from(SHAPES)
OBJECTIVE = Diffusion(torch.linspace(0.999, 0.001, 1000))


def sample(
    number: int, shape: tuple[int, int], *, repeats: int = 1, extras: bool = False
) -> TrainingSample:
    """A sample that can be told by its latents: mean `number`, no deviation."""
    height, width = shape
    size = (width * 8, height * 8)
    views = tuple(
        View((100, 90), size, (0.0, 0.0, 100.0, 90.0), flipped) for flipped in (False, True)
    )
    latents = torch.zeros(2, 2, 4, height, width)
    latents[:, 0] = number
    masks = torch.full((2, 1, height, width), 0.5) if extras else None
    conditions = torch.full((2, 3, *size[::-1]), number, dtype=torch.uint8) if extras else None
    return TrainingSample(views, latents, (f"prompt {number}",), masks, conditions, repeats)


def stream(
    samples: list[TrainingSample], name: str = "subject", unit: int = 1, **more: object
) -> Stream:
    prompts = {prompt: len(prompt) for s in samples for prompt in s.prompts}
    table = {
        prompt: Conditioning(
            torch.full((1, 2, 3), float(n)), torch.zeros(1, 5), torch.zeros(1, 6, dtype=torch.long)
        )
        for n, prompt in enumerate(prompts)
    }
    encoded = EncodedSamples(tuple(samples), CaptionRules(), table)
    return Stream(name, encoded, 0, unit=unit, **more)  # type: ignore[arg-type]


def step(
    streams: list[Stream], number: int, *, share: int, process: int = 0, processes: int = 1
) -> list[Batch]:
    return step_batches(
        streams,
        number,
        share=share,
        most=share * len(streams),
        process=process,
        processes=processes,
        objective=OBJECTIVE,
    )


def rows(batches: list[Batch]) -> Counter:
    """Everything about each sample, whatever batch it is in."""
    return Counter(
        (
            tuple(batch.latents[n].flatten().tolist()),
            tuple(batch.noise[n].flatten().tolist()),
            batch.timesteps[n].item(),
            batch.prompts[n],
            batch.weights[n].item(),
            tuple(batch.prompt_embeds.hidden[n].flatten().tolist()),
        )
        for batch in batches
        for n in range(len(batch))
    )


def order_of(shapes: Sequence[tuple[int, int]], unit: int, epoch: int, **how: Any) -> list[int]:
    numbers = np.array([SHAPES.index(shape) for shape in shapes])
    settings = {"seed": 0, "name": "subject", **how}
    return epoch_order(**settings, epoch=epoch, shapes=numbers, unit=unit).tolist()


def order_until_now(shapes: Sequence[tuple[int, int]], unit: int, epoch: int) -> list[int]:
    """As versions up to 0.1 draw it, one entry at a time: their runs go on to the same bits."""
    generator = torch.Generator().manual_seed(derive(0, "order subject", epoch))
    by_shape: dict[tuple[int, int], list[int]] = {}
    for number in torch.randperm(len(shapes), generator=generator).tolist():
        by_shape.setdefault(shapes[number], []).append(number)
    units, loose = [], []
    for alike in by_shape.values():
        full = len(alike) // unit * unit
        units += [alike[start : start + unit] for start in range(0, full, unit)]
        loose += alike[full:]
    order = torch.randperm(len(units), generator=generator).tolist()
    shuffled = [units[number] for number in order]
    begun = -epoch * len(shapes) % unit
    while shuffled and len(loose) < begun:
        loose += shuffled.pop()
    return [*loose[:begun], *chain.from_iterable(shuffled), *loose[begun:]]


@settings(max_examples=100, deadline=None)
@given(
    shapes=st.lists(LATENT_SHAPE, min_size=1, max_size=40),
    unit=st.integers(1, 12),
    epoch=st.integers(0, 5),
)
def test_the_order_of_an_epoch_is_that_of_earlier_versions(
    shapes: list[tuple[int, int]], unit: int, epoch: int
) -> None:
    order = order_of(shapes, unit, epoch)
    assert order == order_until_now(shapes, unit, epoch)
    assert sorted(order) == list(range(len(shapes)))


@settings(max_examples=60, deadline=None)
@given(shapes=st.lists(LATENT_SHAPE, min_size=1, max_size=40), unit=st.integers(1, 8))
def test_as_few_steps_as_possible_mix_shapes(shapes: list[tuple[int, int]], unit: int) -> None:
    """A step of one epoch is of one shape but for what full units leave over."""
    for epoch in range(3):
        order = order_of(shapes, unit, epoch)
        begun = epoch * len(shapes)
        steps: dict[int, set[tuple[int, int]]] = {}
        for place, number in enumerate(order):
            steps.setdefault((begun + place) // unit, set()).add(shapes[number])
        left_over = sum(count % unit for count in Counter(shapes).values())
        mixed = sum(len(found) > 1 for found in steps.values())
        assert mixed <= -(-(left_over + unit) // unit) + 1


def test_orders_differ_between_epochs_seeds_and_streams() -> None:
    shapes = ((8, 8),) * 20
    orders = [
        order_of(shapes, 4, 0),
        order_of(shapes, 4, 1),
        order_of(shapes, 4, 0, seed=1),
        order_of(shapes, 4, 0, name="class"),
    ]
    assert all(one != other for one, other in pairwise(orders))


def test_an_epoch_is_ordered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def counted(*args: Any) -> np.ndarray:
        drawn.append(args[2])
        return epoch_order(*args)

    monkeypatch.setattr(sampler, "epoch_order", counted)
    one = stream([sample(n, SHAPES[n % 3]) for n in range(6)], unit=4)
    for position in (0, 7, 5, 6, 11, 13, 2, 12):  # a step straddles epochs
        one.index(position)
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize("unit", [1, 3, 4])
def test_every_epoch_sees_every_sample_as_often_as_it_repeats(unit: int) -> None:
    repeats = [1, 3, 2, 1, 1]
    samples = [sample(n, SHAPES[n % 3], repeats=r) for n, r in enumerate(repeats)]
    one = stream(samples, unit=unit)
    for epoch in range(4):
        seen = Counter(one.index(epoch * 8 + place) for place in range(8))
        assert seen == dict(enumerate(repeats))


@pytest.mark.parametrize(("processes", "share"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_any_split_over_processes_is_the_same_step(processes: int, share: int) -> None:
    """One process with batch 2k is two with batch k: same samples, noise, timesteps, weights."""
    samples = [sample(n, SHAPES[n % 3], repeats=1 + n % 2) for n in range(7)]
    streams = [
        stream(samples, unit=6),
        stream(samples[:3], "class", unit=6, weight=0.5),
    ]
    for number in (1, 2, 5):
        whole = rows(step(streams, number, share=6))
        split = Counter()
        for process in range(processes):
            split += rows(step(streams, number, share=share, process=process, processes=processes))
        assert split == whole
        assert sum(whole.values()) == 12


def test_batches_are_of_one_shape_and_of_limited_size() -> None:
    samples = [sample(n, SHAPES[n % 3]) for n in range(9)]
    for start in range(0, 80, 8):
        batches = pack(
            [stream(samples).at(n, objective=OBJECTIVE) for n in range(start, start + 8)], most=3
        )
        assert sum(len(batch) for batch in batches) == 8
        assert all(len(batch) <= 3 for batch in batches)


def test_what_a_position_sees_depends_on_nothing_else() -> None:
    samples = [sample(n, SHAPES[n % 3]) for n in range(5)]
    one, other = stream(samples, unit=4), stream(samples, unit=4)
    backwards = [other.at(position, objective=OBJECTIVE) for position in reversed(range(12))]
    forwards = [one.at(position, objective=OBJECTIVE) for position in range(12)]
    assert [rows([batch]) for batch in forwards] == [rows([batch]) for batch in backwards[::-1]]
    views = {one.at(p, objective=OBJECTIVE).prompt_embeds.time_ids[0, 3].item() for p in range(12)}  # type: ignore[index]
    assert len(views) == 1


def test_both_views_come_up() -> None:
    one = sample(0, (8, 8))
    one.latents[1, 0] = 1
    found = Counter(
        stream([one]).at(position, objective=OBJECTIVE).latents.mean().item()
        for position in range(80)
    )
    assert set(found) == {0.0, 1.0}
    assert min(found.values()) > 20


def test_sizes_are_told_height_first() -> None:
    batch = stream([sample(0, (8, 4))]).at(0, objective=OBJECTIVE)
    assert batch.prompt_embeds.time_ids is not None
    assert batch.prompt_embeds.time_ids.tolist() == [[90, 100, 0, 0, 64, 32]]


def test_masks_and_conditions_come_along() -> None:
    with_both, without = sample(3, (8, 8), extras=True), sample(1, (8, 8))
    (batch,) = step([stream([with_both, without], unit=2)], 1, share=2)
    assert batch.mask is not None
    assert sorted(batch.mask.mean(dim=(1, 2, 3)).tolist()) == [0.5, 1.0]
    (alone,) = step([stream([with_both])], 1, share=2)
    there = alone.to(torch.device("cpu"), torch.float32).control_image
    assert there is not None
    assert there.shape == (2, 3, 64, 64)
    assert there.mean().item() == pytest.approx(3 / 255)
    (bare,) = step([stream([without])], 1, share=2)
    assert bare.mask is None
    assert bare.control_image is None


def test_control_images_travel_as_bytes_and_are_expanded_where_they_arrive() -> None:
    """Grey ones as one channel; each level becomes what dividing it by 255 on the CPU gives."""
    every_level = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    colours = torch.cat([every_level, every_level.flip(2), every_level.flip(3)], 1)
    plain = step([stream([sample(1, (2, 2))])], 1, share=1)[0]
    for images, bytes_of_all in (([every_level] * 2, 512), ([every_level, colours], 1536)):
        batch = Batch.join([replace(plain, control_image=image) for image in images])
        assert batch.control_image is not None
        assert batch.control_image.nbytes == bytes_of_all
        there = batch.to(torch.device("cpu"), torch.bfloat16)
        expected = torch.cat([image.expand(-1, 3, -1, -1) / 255 for image in images])
        assert there.control_image is not None
        assert there.control_image.dtype == torch.float32
        assert torch.equal(there.control_image, expected)
        again = there.to(torch.device("cpu"), torch.bfloat16).control_image
        assert again is not None
        assert torch.equal(again, expected)


def test_validation_reads_every_caption_even_where_training_drops_them() -> None:
    samples = [sample(n, (8, 8)) for n in range(4)]
    trained = stream(samples)
    table = {**trained.encoded.conditioning, "": trained.encoded.conditioning["prompt 0"]}
    dropping = EncodedSamples(samples, CaptionRules(dropout=1.0), table)
    trained = replace(trained, encoded=dropping)
    assert set(trained.at(0, objective=OBJECTIVE).prompts) == {""}
    batches = fixed_batches(trained, 8, batch_size=4, objective=OBJECTIVE)
    prompts = [prompt for batch in batches for prompt in batch.prompts]
    assert len(prompts) == 8
    assert set(prompts) <= {f"prompt {n}" for n in range(4)}


def test_validation_has_noises_of_its_own_the_same_every_time() -> None:
    """What a run has trained on would tell nothing of what it has learned."""
    trained = stream([sample(n, (8, 8)) for n in range(4)], unit=2)
    made = [fixed_batches(trained, 8, batch_size=4, objective=OBJECTIVE) for _ in range(2)]
    first, again = (torch.cat([batch.noise for batch in batches]) for batches in made)
    assert torch.equal(first, again)
    seen = torch.cat([trained.at(place, objective=OBJECTIVE).noise for place in range(8)])
    assert not (first[:, None] == seen[None]).flatten(2).all(2).any()


def test_batches_built_ahead_are_the_same_in_any_order_of_steps() -> None:
    streams = [stream([sample(n, SHAPES[n % 2], extras=True) for n in range(5)], unit=2)]
    plain = StepBatches(streams, 2, 2, 0, 1, OBJECTIVE, torch.device("cpu"), torch.float32)
    ahead = BatchesAhead(plain, last_step=6, pin=False)
    for number in (1, 2, 3, 6, 4, 5, 5, 6):  # a resumed or dry run may go back
        for ours, expected in zip(ahead(number), plain(number), strict=True):
            assert ours.prompts == expected.prompts
            assert ours.regularizer_share == expected.regularizer_share
            for a, b in zip(ours.tensors(), expected.tensors(), strict=True):
                assert torch.equal(a, b)
