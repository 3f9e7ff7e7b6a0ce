"""Steer a UNet by control images: the handle on a hint encoder and on where its hints go in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from orthodiff.control.conditions.base import Condition
from orthodiff.control.conditions.registry import condition_of
from orthodiff.control.encoder import (
    HintEncoder,
    channels_for,
    init_from_data,
    start,
)
from orthodiff.errors import UserError
from orthodiff.io import safetensors
from orthodiff.io.atomic import publishing

CONFIG = "control.json"
WEIGHTS = "hint_encoder.safetensors"


class Control:
    """A hint encoder on a UNet: what it learns, and `guided`, within which it steers.

    Made by `attach` and `load`. The UNet is changed only within `guided`: hints are then added to
    what its first convolution puts out.
    """

    def __init__(self, unet: Any, encoder: HintEncoder, condition: Condition) -> None:
        self.unet = unet
        self.encoder = encoder.to(unet.device)
        self.condition = condition
        self._hints: Tensor | None = None
        self._hook: Any = None
        self._hooked: nn.Module | None = None
        self.attach()

    def encode(self, control_images: Tensor) -> Tensor:
        """Control images `(B, 3, H, W)` in [0, 1] -> hints `(B, width, h, w)`, once for all steps.

        Raises:
            UserError: the control images have another form.
        """
        weight = self.encoder.layers.conv_in.weight
        return self.encoder(control_images.to(weight.device, weight.dtype))

    def init_from_data(self, control_images: Tensor) -> None:
        """Let features of all layers start at standard size, as measured on `control_images`."""
        weight = self.encoder.layers.conv_in.weight
        init_from_data(self.encoder.layers, control_images.to(weight.device, weight.dtype))

    @contextmanager
    def guided(self, hints: Tensor, *, strength: float = 1.0) -> Iterator[None]:
        """Within, the UNet starts from its own features plus `strength` times `hints`.

        A batch that holds the hints' batch several times, as guidance makes it, gets them in every
        part; one hint serves any batch.
        """
        self.attach()
        before, self._hints = self._hints, hints * strength
        try:
            yield
        finally:
            self._hints = before

    def attach(self) -> None:
        """Put the hook on the UNet's first convolution, which may since have been replaced."""
        if self._hooked is not self.unet.conv_in:
            self.detach()
            self._hooked = self.unet.conv_in
            self._hook = self.unet.conv_in.register_forward_hook(self._add)

    def detach(self) -> None:
        """Leave the UNet as it was; the handle keeps its parameters."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._hooked = None

    def _add(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        if self._hints is None:
            return output
        times, rest = divmod(len(output), len(self._hints))
        if rest or self._hints.shape[1:] != output.shape[1:]:
            raise UserError(
                f"The hints have shape {tuple(self._hints.shape)}, but the UNet's first features "
                f"{tuple(output.shape)}. Give one control image per image, of the images' size."
            )
        return output + self._hints.to(output.device, output.dtype).repeat(times, 1, 1, 1)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by diffusers' names."""
        return dict(self.encoder.layers.named_parameters())

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters."""
        return list(self.named_parameters().values())

    @property
    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the parameters by name."""
        return {name: p.detach().clone() for name, p in self.named_parameters().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set all parameters; nothing changes if anything does not fit.

        Raises:
            UserError: names or shapes differ, or numbers are not finite.
        """
        own = self.named_parameters()
        _check(state, own)
        for name, parameter in own.items():
            parameter.copy_(state[name])

    def config(self) -> dict[str, Any]:
        """What `control.json` holds: the condition with its settings, and the encoder's form."""
        return {
            "condition_type": self.condition.name,
            "settings": self.condition.settings(),
            "factor": self.encoder.factor,
            "channels": list(self.encoder.channels),
            "width": self.encoder.width,
        }

    def save(
        self,
        folder: str | Path,
        *,
        base: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write `hint_encoder.safetensors`, with `base` and `metadata` in it, and `control.json`.

        Raises:
            UserError: `folder` is a file.
        """
        recipe = {"format": "pt", **({"base": base} if base else {}), **(metadata or {})}
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        with publishing(Path(folder)) as new:
            (new / WEIGHTS).write_bytes(to_bytes(weights, metadata=recipe))
            (new / CONFIG).write_text(f"{json.dumps(self.config(), indent=2)}\n", "utf-8")


def attach(
    unet: Any, condition: Condition, *, factor: int, generator: torch.Generator | None = None
) -> Control:
    """A new control of `unet` by `condition`, zero at the start; `factor` is pixels per latent.

    The UNet's own weights are left as they are, frozen or not. The same seed gives the same bits.

    Raises:
        UserError: the factor is no power of two.
    """
    with torch.inference_mode(False):  # parameters that can be trained, wherever this is called
        encoder = start(_width(unet), channels_for(factor), generator)
    return Control(unet, encoder, condition)


def load(unet: Any, folder: str | Path) -> Control:
    """Attach the control saved in `folder` to `unet`.

    Raises:
        UserError: the folder holds no control, is damaged, or fits another base.
    """
    config = read_config(folder)
    if config["width"] != _width(unet):
        raise UserError(
            f"{folder} steers a UNet of {config['width']} first channels, but this one has "
            f"{_width(unet)}. It belongs to another base model."
        )
    # no inference tensors, even under `torch.inference_mode`: those cannot be trained
    with torch.inference_mode(False):
        encoder = HintEncoder(config["width"], config["channels"])
        state, _ = safetensors.read_tensors(Path(folder) / WEIGHTS)
        _check(state, dict(encoder.layers.named_parameters()))
        encoder.layers.load_state_dict(state)
    return Control(unet, encoder, config["condition"])


def is_control(folder: str | Path) -> bool:
    """Whether an adapter folder holds a control as well."""
    return (Path(folder) / CONFIG).is_file()


def read_metadata(folder: str | Path) -> dict[str, str]:
    """The recipe that was saved with a control: `base` and `save`'s metadata.

    Raises:
        UserError: the weights are missing or not safetensors.
    """
    return safetensors.read_metadata(Path(folder) / WEIGHTS)


def describe(folder: str | Path) -> dict[str, Any]:
    """What `control.json` of `folder` says.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    return {k: v for k, v in read_config(folder).items() if k != "condition"}


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `control.json` of `folder`, checked, with the ready `condition` in it.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no {CONFIG}: it was trained without control images.")
    try:
        config = json.loads(path.read_text("utf-8"))
        condition = condition_of(config["condition_type"], config["settings"])
        channels = tuple(int(c) for c in config["channels"])
        width = int(config["width"])
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{path} cannot be read. Save the control again.") from None
    # a foreign file must not make us allocate whatever it says
    if not all(0 < c <= 4096 for c in (*channels, width)) or not 1 <= len(channels) <= 6:
        raise UserError(f"{path} describes no hint encoder we can build. Save it again.")
    return {**config, "channels": channels, "width": width, "condition": condition}


def _check(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    if differing := sorted(state.keys() ^ own.keys()):
        raise UserError(f"The hint encoder lacks or should lack {differing[0]}. It is another one.")
    for name, parameter in own.items():
        if state[name].shape != parameter.shape or not state[name].isfinite().all():
            raise UserError(
                f"The hint encoder's {name} has shape {tuple(state[name].shape)} or numbers that "
                f"are not finite, but {tuple(parameter.shape)} is due. It is damaged or another."
            )


def _width(unet: Any) -> int:
    """The number of features that the first convolution of `unet` puts out.

    Raises:
        UserError: it is no UNet.
    """
    widths = unet.config.get("block_out_channels")
    if not widths or not isinstance(getattr(unet, "conv_in", None), nn.Module):
        raise UserError(
            f"A hint encoder adds to the first convolution of a UNet, but the base has a "
            f"{type(unet).__name__}. Use a base with a UNet, such as Stable Diffusion 1.5 or XL."
        )
    return int(widths[0])
