"""Base-model families: `load_base` opens any folder or hub id that one of them serves."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from orthodiff.errors import UserError
from orthodiff.io import hub
from orthodiff.io.assets import shipped
from orthodiff.models.base import Base, Recommended
from orthodiff.models.conditioning import Conditioning
from orthodiff.models.index import check_weight_maps, read_index
from orthodiff.models.objective import Diffusion, FlowMatching, Objective, objective_of
from orthodiff.models.offload import Offload
from orthodiff.models.quantize import Bits, check_quantization, quantize_linear_layers
from orthodiff.models.sd import StableDiffusion
from orthodiff.models.sdxl import StableDiffusionXL
from orthodiff.models.single_file import configuration, open_parts, texts_of
from orthodiff.registry import Registry

__all__ = [
    "FAMILIES",
    "Base",
    "Conditioning",
    "Diffusion",
    "FlowMatching",
    "Objective",
    "Recommended",
    "StableDiffusion",
    "StableDiffusionXL",
    "load_base",
    "objective_of",
    "register_base",
]

FAMILIES: Registry[type[Base]] = Registry(
    "base-model family",
    group="orthodiff.models",
    builtin={"sd": StableDiffusion, "sdxl": StableDiffusionXL},
)
"""Every family by name; packages add theirs by entry points `orthodiff.models`."""


def register_base(family: type[Base]) -> type[Base]:
    """Let `load_base` serve the folders whose pipeline is among `family.pipelines`.

    Raises:
        UserError: another family has its name.
    """
    return FAMILIES.register(family.family, family)


def load_base(
    name: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    offload: Offload = "none",
    quantize: Bits | None = None,
) -> Base:
    """Load the base model `name`: a diffusers-format folder, a checkpoint file, or a hub id.

    With `offload` its parts lie on the CPU and work on `device` by turns. `quantize` packs the
    linear layers of the denoiser into 8 or 4 bits.

    `pocket` is the embedded model.

    Raises:
        UserError: no such folder or id, no family serves it, or files are missing.
    """
    if quantize:
        check_quantization()
        if offload == "sequential":
            raise UserError(
                "`quantize_base` does not work with `offload` sequential: packed layers cannot be "
                "moved one by one. Use --offload model."
            )
    base = _load(
        name,
        revision=revision,
        variant=variant,
        dtype=dtype,
        device="cpu" if quantize or offload != "none" else device,
    )
    if quantize:
        quantize_linear_layers(base.denoiser, quantize, device=device)
        if offload == "none":
            base.to(device)
    base.offload_to_cpu(offload, device)
    return base


def _load(
    name: str, *, revision: str | None, variant: str | None, dtype: torch.dtype, device: str
) -> Base:
    local = shipped(name)
    if local.is_file() or local.suffix == ".safetensors":
        return _load_file(local, name, dtype=dtype, device=device)
    if local.exists():
        family, folder = _family_of(read_index(local, name), name), local
    else:
        family, folder = _download(name, revision=revision, variant=variant)
    check_weight_maps(folder)
    return family.load(folder, name=name, variant=variant, dtype=dtype, device=device)


def _load_file(path: Path, name: str, *, dtype: torch.dtype, device: str) -> Base:
    if not path.is_file():
        raise UserError(f"The checkpoint `{name}` does not exist. Check the path.")
    with configuration(path, name) as folder:
        index = read_index(folder, name)
        family = _family_of(index, name)
        if not issubclass(family, StableDiffusion):
            raise UserError(
                f"The checkpoint `{name}` is of the family {family.family}, which loads folders "
                "only. Give a diffusers-format folder."
            )
        parts = open_parts(path, folder, index["_class_name"], name=name, dtype=dtype)
    return family.assemble(
        path,
        index,
        name=name,
        denoiser=parts["unet"],
        vae=parts["vae"],
        texts=texts_of(parts),
        scheduler=parts["scheduler"],
        device=device,
    )


def _download(name: str, *, revision: str | None, variant: str | None) -> tuple[type[Base], Path]:
    """The family of a model on the hub, known from its index, and the folder of its files."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    if not _looks_like_hub_id(name):
        raise UserError(
            f"The base model folder `{name}` does not exist. Check the path, or give a hub id "
            "such as stable-diffusion-v1-5/stable-diffusion-v1-5."
        )
    why = hub.trouble(name, revision=revision)
    offline = why is not None
    try:
        index = hf_hub_download(
            name, "model_index.json", revision=revision, local_files_only=offline
        )
        family = _family_of(read_index(Path(index).parent, name), name)
        folder = DiffusionPipeline.download(
            name,
            revision=revision,
            variant=variant,
            use_safetensors=True,
            local_files_only=offline,
        )
    except UserError:
        raise
    except Exception as error:  # of the hub, of its http library, of the system
        raise UserError(
            f"The base model `{name}` is not on this computer, and {why or hub.tell(error)}."
        ) from error
    return family, Path(folder)


def _looks_like_hub_id(name: str) -> bool:
    """`owner/model`, unless a folder `owner` lies here: then a path was meant."""
    match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)/[\w.-]+", name)
    return match is not None and not Path(match[1]).is_dir()


def _family_of(index: dict, name: str) -> type[Base]:
    pipeline = index.get("_class_name", "nothing")
    for family in FAMILIES.values():
        if pipeline in family.pipelines:
            return family
    served = ", ".join(p for family in FAMILIES.values() for p in family.pipelines)
    raise UserError(
        f"The base model `{name}` is a {pipeline}, which is not supported. Use a model of kind "
        f"{served}."
    )
