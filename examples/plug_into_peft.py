"""Take an adapter to PEFT and back: `python examples/plug_into_peft.py`."""

from pathlib import Path

import peft
import torch
from diffusers import UNet2DConditionModel

import orthodiff

UNET = Path(__file__).parent.parent / "assets/pocket/unet"
INPUTS = (torch.randn(1, 4, 16, 16), torch.tensor(500), torch.randn(1, 32, 192))


@torch.no_grad()
def main(output: Path = Path("runs/peft")) -> float:
    """Print how far PEFT's outputs are from ours: rounding errors, in both directions."""
    unet = UNet2DConditionModel.from_pretrained(UNET)
    adapter = orthodiff.attach(unet, orthodiff.HRA(rank=8), targets=orthodiff.ATTENTION)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    ours = unet(*INPUTS).sample
    adapter.save(output / "ours")
    adapter.detach()

    theirs = peft.PeftModel.from_pretrained(unet, output / "ours")  # PEFT opens our folder
    there = (theirs(*INPUTS).sample - ours).abs().max().item()
    theirs.save_pretrained(output / "theirs")

    unet = UNet2DConditionModel.from_pretrained(UNET)
    orthodiff.load(unet, output / "theirs")  # we open PEFT's
    back = (unet(*INPUTS).sample - ours).abs().max().item()
    print(f"largest difference in PEFT {there:.1e}, back here {back:.1e}")
    return max(there, back)


if __name__ == "__main__":
    main()
