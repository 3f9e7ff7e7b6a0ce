"""A base model out of one `.safetensors` checkpoint, as it is shared among web interfaces.

Nothing is downloaded: configurations follow from the tensors, the tokenizer must be at hand.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from orthodiff.errors import UNUSABLE, UserError, first_line
from orthodiff.io.safetensors import read_shapes
from orthodiff.models.checkpoint_layout import (
    LAYOUTS,
    UNET,
    VAE,
    CheckpointLayout,
    Shapes,
    noise_config,
    text_config,
    text_width,
    unet_config,
    vae_config,
)
from orthodiff.models.text_encoder import TextEncoder, open_tokenizer

CLIP = "openai/clip-vit-large-patch14"
"""The tokenizer of every Stable Diffusion; 2.x and XL's second encoder pad with `!`."""
PREDICTIONS = {"v": "v_prediction", "epsilon": "epsilon", "eps": "epsilon"}
SPECIAL = ("bos", "eos", "pad")
REFINER_WIDTH = 1280
REMEDY = "Download it again; other formats are not read because they can run code"


def open_parts(
    path: Path, folder: Path, pipeline: str, *, name: str, dtype: torch.dtype
) -> dict[str, Any]:
    """The parts in the file by name, configured by `folder`; the autoencoder in float32.

    Raises:
        UserError: the tensors do not fit.
    """
    import diffusers

    local: dict[str, Any] = {"config": str(folder), "local_files_only": True}
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # it warns of modules that there are none of
    try:
        vae = diffusers.AutoencoderKL.from_single_file(
            str(path), subfolder="vae", torch_dtype=torch.float32, **local
        )
        kind = getattr(diffusers, pipeline)
        return kind.from_single_file(str(path), vae=vae, torch_dtype=dtype, **local).components
    except UNUSABLE as error:
        raise UserError(
            f"`{name}` cannot be opened as a checkpoint ({first_line(error)}). Use another file, "
            "or a diffusers-format folder."
        ) from error
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)


def texts_of(parts: Mapping[str, Any]) -> list[TextEncoder]:
    """The text encoders among a pipeline's parts."""
    return [
        TextEncoder(part, parts[part], parts[part.replace("text_encoder", "tokenizer")])
        for part in ("text_encoder", "text_encoder_2")
        if parts.get(part) is not None
    ]


@contextmanager
def configuration(path: Path, name: str) -> Iterator[Path]:
    """A folder of configurations and tokenizers: the one beside the file, else a made one.

    Raises:
        UserError: the file is no whole checkpoint of a kind we know, or no tokenizer is at hand.
    """
    shapes, header = read_shapes(path, remedy=REMEDY)
    beside = path.with_suffix("")
    if (beside / "model_index.json").is_file():
        yield beside
        return
    layout = _layout(shapes, name)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _write(Path(scratch), layout, shapes, header, path)
        except (LookupError, StopIteration, ValueError) as error:
            raise UserError(
                f"`{name}` is no whole checkpoint ({first_line(error)}). Use another file, or a "
                "diffusers-format folder."
            ) from error
        yield Path(scratch)


def _layout(shapes: Shapes, name: str) -> CheckpointLayout:
    """The kind of checkpoint.

    Raises:
        UserError: it is none of those we know, saying what it looks like.
    """
    width = text_width(shapes)
    if width == REFINER_WIDTH:
        raise UserError(
            f"`{name}` is the refiner of Stable Diffusion XL, which is not supported. "
            "Use the base model."
        )
    layout = LAYOUTS.get(width or 0)
    needed = {"UNet": UNET, "autoencoder": VAE}
    needed |= {f"text encoder ({p})": p for p in (layout.texts.values() if layout else ())}
    missing = [what for what, p in needed.items() if not any(k.startswith(p) for k in shapes)]
    if layout is None or missing:
        lacks = f"it has no {missing[0]}" if missing else f"its text is {width} wide"
        raise UserError(
            f"`{name}` is not a whole checkpoint of Stable Diffusion 1.x, 2.x or XL: {lacks}. "
            "Use another file, or a diffusers-format folder."
        )
    return layout


def _write(
    folder: Path, layout: CheckpointLayout, shapes: Shapes, header: Mapping[str, str], path: Path
) -> None:
    """Write the configurations that the file leaves out."""
    prediction = _prediction(layout, shapes, header, path)
    resolution = _resolution(layout, header, prediction)
    noise = noise_config(layout, shapes, prediction=prediction)
    contents = {
        "unet": ("UNet2DConditionModel", unet_config(layout, shapes, resolution=resolution)),
        "vae": ("AutoencoderKL", vae_config(layout, shapes, resolution=resolution)),
        "scheduler": (layout.scheduler, noise),
    }
    index: dict[str, Any] = {"_class_name": layout.pipeline, **layout.index}
    for part, (kind, config) in contents.items():
        index[part] = ["diffusers", kind]
        _write_json(folder / part / _config_name(part), {"_class_name": kind, **config})
    for number, (part, prefix) in enumerate(layout.texts.items()):
        config, tokenizer = text_config(shapes, prefix), part.replace("text_encoder", "tokenizer")
        index[part] = ["transformers", "CLIPTextModelWithProjection" if number else "CLIPTextModel"]
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
        clip_tokenizer = _find_tokenizer(path, config)
        special = {
            f"{kind}_token_id": getattr(clip_tokenizer, f"{kind}_token_id") for kind in SPECIAL
        }
        config |= {"model_type": "clip_text_model", **special}
        _write_json(folder / part / "config.json", config)
        clip_tokenizer.save_pretrained(folder / tokenizer)
    _write_json(folder / "model_index.json", index)


def _config_name(part: str) -> str:
    return "scheduler_config.json" if part == "scheduler" else "config.json"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def _prediction(
    layout: CheckpointLayout, shapes: Shapes, header: Mapping[str, str], path: Path
) -> str:
    """What the UNet predicts: as the header, a marker, or the .yaml beside the file says.

    Else noise, or for Stable Diffusion 2 velocity, as in its 768-pixel model.
    """
    written = header.get("modelspec.prediction_type") or _yaml_prediction(path)
    if written in PREDICTIONS or written in PREDICTIONS.values():
        return PREDICTIONS.get(written, written)
    if "v_pred" in shapes or header.get("modelspec.architecture", "").endswith("-v"):
        return "v_prediction"
    is_small = "-v2-512" in header.get("modelspec.architecture", "")
    return "v_prediction" if layout.resolution == 768 and not is_small else "epsilon"


def _yaml_prediction(path: Path) -> str:
    """`parameterization` of the original code's configuration of the same name, if it is there."""
    import yaml

    try:
        config = yaml.safe_load(path.with_suffix(".yaml").read_text("utf-8"))
        return str(config["model"]["params"]["parameterization"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return ""


def _resolution(layout: CheckpointLayout, header: Mapping[str, str], prediction: str) -> int:
    side = header.get("modelspec.resolution", "").partition("x")[0]
    if side.isdecimal() and int(side) % 8 == 0 and int(side) > 0:
        return int(side)
    return 512 if layout.resolution == 768 and prediction == "epsilon" else layout.resolution


def _find_tokenizer(path: Path, config: Mapping[str, Any]) -> Any:
    """CLIP's tokenizer: from beside the file, or from the hub's local cache.

    Raises:
        UserError: it is in neither place, or has more words than the file.
    """
    places = (path.with_suffix("") / "tokenizer", path.parent / "tokenizer")
    place = next((str(p) for p in places if p.is_dir()), CLIP)
    try:
        tokenizer = open_tokenizer(place)
    except UNUSABLE as error:
        raise UserError(
            f"`{path.name}` needs CLIP's tokenizer, which a single file does not hold. Put its "
            f"vocab.json and merges.txt (or tokenizer.json) into `{places[1]}`, or run "
            f"`hf download {CLIP} tokenizer.json tokenizer_config.json` once."
        ) from error
    if len(tokenizer) > config["vocab_size"]:
        raise UserError(
            f"The tokenizer in `{place}` has {len(tokenizer)} words, but `{path.name}` knows "
            f"{config['vocab_size']}. Put the file's own tokenizer there."
        )
    if config["hidden_act"] == "gelu":
        tokenizer.pad_token = "!"
    return tokenizer
