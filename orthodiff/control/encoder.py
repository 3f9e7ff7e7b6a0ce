"""The hint encoder: a control image becomes features as large as a latent, added in the UNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from orthodiff.errors import UserError

if TYPE_CHECKING:
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

CHANNELS = (16, 32, 96, 256)
"""ControlNet's widths (arXiv:2302.05543): one more per halving, as many as a factor of 8 needs."""
LARGE, NORMAL_LARGE = 0.99, 2.576
"""A share of features, and the size below which it is of a standard normal's numbers."""

MOST_PIXELS = 2**22
"""What is looked at: 16 control images of 512 pixels a side."""


class HintEncoder(nn.Module):
    """Control image `(B, 3, H, W)` in [0, 1] -> hint `(B, width, H / factor, W / factor)`.

    3x3 convolutions with SiLU between them, one of stride 2 per halving, and a last one that starts
    at zero (arXiv:2306.07280, appendix; the same in HRA and BOFT). For `factor` 8 and `width` 320
    this is Stable Diffusion's, with 1,086,480 parameters; names of the weights are diffusers'.
    """

    def __init__(self, width: int, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

        self.width = width
        self.channels = tuple(channels)
        self.layers = ControlNetConditioningEmbedding(width, 3, self.channels)

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return 2 ** (len(self.channels) - 1)

    def forward(self, control_images: Tensor) -> Tensor:
        """Encode control images.

        Raises:
            UserError: they are not `(B, 3, H, W)` with sides in multiples of `factor`.
        """
        height, width = control_images.shape[-2:]
        if (
            control_images.ndim != 4
            or control_images.shape[1] != 3
            or height % self.factor
            or width % self.factor
        ):
            raise UserError(
                f"The control images have shape {tuple(control_images.shape)}, but (B, 3, H, W) "
                f"with H and W in multiples of {self.factor} is due. Resize them first."
            )
        return self.layers(control_images)


def channels_for(factor: int) -> tuple[int, ...]:
    """The widths for `factor` pixels per latent.

    Raises:
        UserError: the factor is not a power of two up to 32.
    """
    halvings = factor.bit_length() - 1
    if factor != 2**halvings or not 0 <= halvings <= 5:
        raise UserError(f"{factor} pixels per latent cannot be reached by halving up to 5 times.")
    return (*CHANNELS, CHANNELS[-1], CHANNELS[-1])[: halvings + 1]


def start(width: int, channels: tuple[int, ...], generator: torch.Generator | None) -> HintEncoder:
    """A new encoder, drawn on the CPU in float32 from `generator`, else from torch's global one."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HintEncoder(width, channels)


@torch.no_grad()
def init_from_data(layers: ControlNetConditioningEmbedding, control_images: Tensor) -> None:
    """Start all but the last convolution from features of standard size on `control_images`.

    Where one has its median colour (black among edges) features become 0, and elsewhere `LARGE`
    of them are below the size that they have in a standard normal. A start that looks at data is
    arXiv:1511.06422's idea. From torch's own start features shrink to a thousandth on the way to
    the last convolution, and following begins late.
    """
    features = control_images[: max(1, MOST_PIXELS // control_images[0, 0].numel())]
    default = features.transpose(0, 1).flatten(1).median(1).values
    for layer in (layers.conv_in, *layers.blocks):
        layer.bias.zero_()
        rest = layer.weight.sum((2, 3)) @ default
        outputs = layer(features) - rest.view(-1, 1, 1)
        large = _large(outputs)
        scale = torch.where(large > 1e-4, NORMAL_LARGE / large, 1)  # some images are all blank
        layer.weight.mul_(scale.view(-1, 1, 1, 1))
        layer.bias.copy_(-rest * scale)
        features = nn.functional.silu(outputs * scale.view(-1, 1, 1))
        default = torch.zeros_like(rest)


def _large(features: Tensor) -> Tensor:
    """`(B, C, H, W)` -> the size `(C,)` below which `LARGE` of a channel's features are."""
    sizes = features.transpose(0, 1).flatten(1).abs()
    sizes = sizes[:, :: max(1, sizes.shape[1] // 2**16)]
    return sizes.kthvalue(max(1, int(LARGE * sizes.shape[1])), dim=1).values
