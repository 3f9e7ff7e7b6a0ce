"""Who made the models: the text of `CREDITS.md`.

python -m pocket.world.models.credits > pocket/world/models/CREDITS.md
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from pocket.world.models.catalogue import Individual, individuals

HEAD = """# Creators of the 3D models

The rendered world shows models of the Debian package `sweethome3d-furniture` 1.8, which collects
them for Sweet Home 3D. No model is part of this repository; images made from them are. The models
were scaled, some were turned upright, and their surfaces were lit, recoloured and given other
materials. Models under CC-BY 3.0 ask that their creators be named: here they are, all of them,
together with those who gave their work to the public domain.

This file is written by `python -m pocket.world.models.credits`.
"""
LICENCE_NAMES = {
    "CC0-1.0": "Public domain (CC0 1.0)",
    "CC-BY-3.0": "Creative Commons Attribution 3.0",
    "CC-BY-3.0-US": "Creative Commons Attribution 3.0 United States",
}


def credits(everyone: Iterable[Individual]) -> str:
    """The creators by licence, each with the names of the models."""
    made: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in LICENCE_NAMES}
    for one in everyone:
        made[one.licence][one.creator].append(one.name)
    parts = [HEAD]
    for licence, title in LICENCE_NAMES.items():
        parts.append(f"## {title}\n")
        creators = sorted(made[licence].items(), key=lambda item: item[0].lower())
        parts.append("\n".join(f"- {who}: {', '.join(sorted(names))}" for who, names in creators))
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    print(credits(individuals()), end="")
