"""`orthodiff evaluate --generated DIR --reference DIR`: score a batch that was made before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from orthodiff.batch.manifest import Manifest
from orthodiff.cli.flags import read_options
from orthodiff.cli.progress import print_note
from orthodiff.errors import UserError
from orthodiff.evaluation.generated import (
    GeneratedFile,
    References,
    real_scores,
    score_generated,
)
from orthodiff.evaluation.scorer_sets import check_sources, load_set
from orthodiff.evaluation.subject_folder import read_subject
from orthodiff.io.atomic import replace_file
from orthodiff.io.images import find_images, open_image
from orthodiff.logs import quiet_libraries

SCORES = "scores.json"
COLUMNS = ("subject", "prompt", "diversity", "copying", "drift", "retrieval")


class EvaluateGeneratedOptions(BaseModel):
    """Score the images of a batch: subject, prompt, diversity, copying, drift, retrieval.

    Scorer sets: paper (DINO ViT-S/16, CLIP ViT-L/14, LPIPS), dreambench (DINO, CLIP ViT-B/32),
    dinov2 (base), pocket, offline (EfficientNet-Lite0). What cannot be loaded is named and left
    out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    generated: Path = Field(description="output folder of `generate --prompts`")
    reference: Path = Field(description="folder with the subject's photos (and subject.json)")
    scorers: tuple[str, ...] = Field(("pocket",), description="scorer sets [pocket]")
    scorer_source: tuple[str, ...] = Field(
        (), description="folder of a scorer that is not on the hub, as NAME=FOLDER"
    )
    others: tuple[Path, ...] = Field(
        (), description="photos of other subjects, for the retrieval rank"
    )
    instance_prompt: str | None = Field(
        None, description="prompt of the training [from subject.json]"
    )
    class_word: str | None = Field(None, description="the subject's class [from subject.json]")


def evaluate_generated_command(arguments: Sequence[str]) -> int:
    """Write `scores.json` beside the images and print a table; 1 if no scorer could be loaded.

    Raises:
        UserError: the folder holds no batch, or a folder or set cannot be used.
    """
    prog = "orthodiff evaluate --generated"
    options = read_options(EvaluateGeneratedOptions, arguments, prog=prog)
    quiet_libraries()
    place = options.generated / SCORES
    _check_ours(place)
    files = read_generated(options.generated)
    subject = read_subject(
        options.reference,
        instance_prompt=options.instance_prompt,
        class_word=options.class_word,
    )
    others = {
        folder.name: [open_image(path) for path in find_images(folder)]
        for folder in options.others
        if folder.resolve() != options.reference.resolve()
    }
    sources = _sources(options.scorer_source)
    with Image.open(files[0].path) as first:
        side = min(first.size)
    report: dict[str, Any] = {
        "orthodiff": "scores", "images": len(files), "scorer_sources": sources, "sets": {}
    }  # fmt: skip
    for name in options.scorers:
        loaded = load_set(name, sources=sources)
        for scorer, reason in loaded.missing.items():
            print_note(f"{name}: {scorer} is left out: {reason}.")
        report["sets"][name] = {
            **score_generated(files, References(subject, others), loaded),
            "real": real_scores(loaded, subject, side),
        }
    text = json.dumps(report, indent=2, ensure_ascii=False)
    replace_file(place, f"{text}\n".encode("utf-8", "backslashreplace"))
    print(table(report))
    print(f"Look at {place}")
    return 0 if any(each["real"] or each["models"] for each in report["sets"].values()) else 1


def read_generated(folder: Path) -> list[GeneratedFile]:
    """The images that a folder's manifest tells of.

    Raises:
        UserError: there is no manifest, or no image of it.
    """
    manifest = Manifest(folder)
    records = list(manifest.records(manifest.load().images))
    files = [
        GeneratedFile(
            folder / record["file"],
            record["row"]["prompt"],
            record["row"]["seed"],
            _model(record["row"]),
            is_base=not record["row"].get("adapter"),
        )
        for record in records
        if (folder / record["file"]).is_file()
    ]
    if not files:
        raise UserError(
            f"`{folder}` holds no images with a manifest.jsonl. Make them with "
            "`orthodiff generate --prompts FILE`."
        )
    if len(files) < len(records):
        print_note(f"{len(records) - len(files)} images of the manifest are gone and left out.")
    return files


def _model(row: Mapping[str, Any]) -> str:
    adapter = " + ".join(Path(folder).name for folder in row.get("adapter", ()))
    strength = row.get("strength", 1.0)
    return f"{adapter or 'base'}" + ("" if strength == 1 else f" at {strength:g}")


def _sources(written: Sequence[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in written]
    for name, equals, folder in pairs:
        if not (name and equals and folder):
            raise UserError(f"`scorer_source` is {name + equals + folder!r}, not NAME=FOLDER.")
    sources = {name: folder for name, _, folder in pairs}
    check_sources(sources)
    return sources


def _check_ours(place: Path) -> None:
    """Raises UserError if a file of others lies where the scores go."""
    if not place.exists():
        return
    try:
        ours = json.loads(place.read_text("utf-8"))["orthodiff"] == "scores"
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise UserError(f"`{place}` is there already and not of this command. Move it away.")


def table(report: Mapping[str, Any]) -> str:
    """The scores for people: a line for each model and scorer."""
    lines = [f"{'model':<24}{'scorer':<34}" + "".join(f"{name:>11}" for name in COLUMNS)]
    for each in report["sets"].values():
        for model, by_scorer in each["models"].items():
            for scorer, scores in by_scorer.items():
                cells = (scores.get(name, {}).get("value") for name in COLUMNS)
                shown = "".join("          -" if c is None else f"{c:>11.3f}" for c in cells)
                lines.append(f"{model[:23]:<24}{scorer[-33:]:<34}{shown}")
        for scorer, ceiling in each["real"].items():
            cells = (ceiling.get(name) for name in COLUMNS)
            shown = "".join("          -" if c is None else f"{c:>11.3f}" for c in cells)
            lines.append(f"{'(real photos)':<24}{scorer[-33:]:<34}{shown}")
    return "\n".join(lines)
