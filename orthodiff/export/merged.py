"""A whole pipeline folder with the adapter merged into its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from orthodiff.errors import UserError
from orthodiff.export.change import Request

NOT_PARTS = ("_class_name", "_diffusers_version", "_name_or_path")


def write_pipeline(request: Request, folder: Path, *, dtype: torch.dtype) -> None:
    """Write to `folder` the files of the base model, with the weights of one part replaced.

    Raises:
        UserError: if only the adapted part is at hand.
    """
    if request.base is None:
        raise UserError("A whole model needs the whole base. Give `base` as a folder or hub id.")
    request.adapter.merge()
    request.adapter.detach(merged=True)
    source = request.base.folder
    for name in json.loads((source / "model_index.json").read_text("utf-8")):
        if name == request.part:
            getattr(request.base, name).to(dtype).save_pretrained(folder / name)
        elif name not in NOT_PARTS and (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
    for name in ("model_index.json", "generation_config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
