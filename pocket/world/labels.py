"""The names of all that a pixel of the world can show."""

from __future__ import annotations

from pocket.painted.regions import REGIONS
from pocket.world.models.catalogue import class_keys

WORDS = tuple(class_keys())
"""The class words of all individuals."""
LABELS = ("unlabelled", *REGIONS, *(word for word in WORDS if word not in REGIONS))
"""Label -> name: regions first, as in the painted world, then the classes. A tree is a tree."""
