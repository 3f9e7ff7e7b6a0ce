"""A whole pipeline folder with the adapters merged into its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from orthodiff.errors import UserError, printable
from orthodiff.export.weight_delta import Request, whole_base

NOT_PARTS = ("_class_name", "_diffusers_version", "_name_or_path")
BESIDE = ("model_index.json", "generation_config.json")


def write_pipeline(request: Request, folder: Path, *, dtype: torch.dtype) -> None:
    """Write to `folder` the files of the base model, with the weights of adapted parts replaced.

    Raises:
        UserError: if only the adapted part is at hand.
    """
    base = whole_base(request)
    for part, adapter in request.adapters.items():
        adapter.merge()
        adapter.detach(merged=True)
        model: Any = adapter.model
        model.to(dtype).save_pretrained(folder / part)
    for name in json.loads((base.folder / "model_index.json").read_text("utf-8")):
        source = base.folder / name
        if Path(name).name != name or name == "..":
            raise UserError(
                f"`{base.folder}/model_index.json` names `{printable(name)}`, which is no folder "
                "of it. Do not trust this base."
            )
        if name not in (*NOT_PARTS, *request.adapters) and source.is_dir():
            shutil.copytree(source, folder / name)
    for name in BESIDE:
        if (base.folder / name).is_file():
            shutil.copy(base.folder / name, folder / name)
