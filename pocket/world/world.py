"""The rendered world as a stream: image number `index` of `seed` is always the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from orthodiff.errors import UserError
from pocket.world.models.catalogue import Individual
from pocket.world.places.contexts import CONTEXTS
from pocket.world.rendering.camera import View
from pocket.world.rendering.views import ViewStore, views_of
from pocket.world.scenes.captions import random_caption
from pocket.world.scenes.materials import Appearance, random_appearance
from pocket.world.scenes.scene import Scene, compose, random_pose

LOW_VIEWS = 3
"""Before a horizon, the flattest of this many views is taken: it agrees best with the horizon."""

_views = lru_cache(maxsize=None)(views_of)


@dataclass(frozen=True)
class World:
    """Individuals and their rendered sets.

    Raises:
        UserError: a set is not rendered yet.
    """

    store: ViewStore
    individuals: tuple[Individual, ...]
    sets: tuple[int, ...]

    def __post_init__(self) -> None:
        missing = sum(not self.store.has(one, k) for one in self.individuals for k in self.sets)
        if missing:
            raise UserError(
                f"{missing} sets of views are missing in `{self.store.folder}`. Run "
                f"`python -m pocket.world.rendering.views --folder {self.store.folder} --sets "
                f"{' '.join(map(str, self.sets))}` first."
            )

    @cached_property
    def by_word(self) -> dict[str, list[Individual]]:
        groups: dict[str, list[Individual]] = defaultdict(list)
        for individual in self.individuals:
            groups[individual.word].append(individual)
        return dict(groups)

    @cached_property
    def _records(self) -> dict[tuple[str, int], np.ndarray]:
        return {}

    def record(self, individual: Individual, number: int, place: int) -> np.ndarray:
        key = (individual.key, number)
        if key not in self._records:
            self._records[key] = self.store.open(individual, number)
        return self._records[key][place]

    def scene(self, seed: int, index: int, *, size: int = 128) -> tuple[Scene, str]:
        """Scene `index` of the stream `seed` and its caption; classes are equally frequent."""
        rng = np.random.default_rng((41, seed, index))
        words = list(self.by_word)
        others = self.by_word[words[rng.integers(len(words))]]
        individual = others[rng.integers(len(others))]
        context = list(CONTEXTS)[rng.integers(len(CONTEXTS))]
        return self.scene_of(individual, random_appearance(rng), context, rng, size=size)

    def scene_of(
        self,
        individual: Individual,
        appearance: Appearance,
        context: str,
        rng: np.random.Generator,
        *,
        size: int = 128,
    ) -> tuple[Scene, str]:
        """This individual with this look in this context, seen from somewhere, and a caption."""
        number, place = self._draw_view(individual, context, rng)
        view = _views(individual, number)[place]
        record = self.record(individual, number, place)
        pose = random_pose(rng)
        scene = compose(record, individual, view, appearance, context, pose, rng, size=size)
        return scene, random_caption(individual.word, appearance, view, context, rng)

    def _draw_view(
        self, individual: Individual, context: str, rng: np.random.Generator
    ) -> tuple[int, int]:
        choices: list[tuple[int, int, View]] = []
        for _ in range(LOW_VIEWS):
            number = int(rng.choice(self.sets))
            views = _views(individual, number)
            place = int(rng.integers(len(views)))
            choices.append((number, place, views[place]))
        if not CONTEXTS[context].backdrops:
            return choices[0][:2]
        return min(choices, key=lambda choice: choice[2].elevation)[:2]


def of_words(individuals: Iterable[Individual], words: Sequence[str]) -> tuple[Individual, ...]:
    """The individuals of these classes."""
    return tuple(one for one in individuals if one.word in words)
