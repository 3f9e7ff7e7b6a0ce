"""Put the trained parts together as a folder that plain diffusers opens.

Its model card is written by hand.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from pocket.trainings.unet import noise_schedule

GENERATION = {"guidance_scale": 4.0, "num_inference_steps": 25}
"""What `python -m orthodiff generate` uses with this base unless told otherwise."""


def assemble(parts: Path, out: Path) -> None:
    """Write the pipeline, the scorer and the generation defaults as float16 safetensors."""
    half = {"dtype": torch.float16}
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(parts / "autoencoder", torch_dtype=torch.float16),
        unet=UNet2DConditionModel.from_pretrained(parts / "unet", torch_dtype=torch.float16),
        text_encoder=CLIPTextModel.from_pretrained(parts / "text_encoder", **half),
        tokenizer=CLIPTokenizer.from_pretrained(parts / "tokenizer"),
        scheduler=noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out)
    defaults = {**GENERATION, "resolution": pipeline.vae.config.sample_size}
    CLIPModel.from_pretrained(parts / "scorer", **half).save_pretrained(out / "scorer")
    for extra in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(parts / "scorer" / extra, out / "scorer" / extra)
    for part in ("text_encoder", "scorer"):
        _open_in_float32(out / part / "config.json")
    (out / "generation_config.json").write_text(json.dumps(defaults, indent=1) + "\n")


def _open_in_float32(config: Path) -> None:
    """Half weights on disk, float32 in memory unless asked otherwise, as diffusers does.

    Transformers would open its part in the dtype of the file, and the pipeline would not fit.
    """
    entries = json.loads(config.read_text())
    for level in (entries, entries.get("text_config", {}), entries.get("vision_config", {})):
        if "dtype" in level:
            level["dtype"] = "float32"
    config.write_text(json.dumps(entries, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Assemble the pocket model.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--out", type=Path, default=Path("assets/pocket"))
    options = parser.parse_args()
    assemble(options.folder, options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
