"""The fields that every tab with pictures has: what to show, how often, from which seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from orthodiff.errors import UserError

from ..services.sampler import advice
from .forms import lines, number, whole


class SamplingForm:
    """The components, and what they ask for."""

    def __init__(self, base: str, *, prefix: str, hint: str, example: str, value: str = "") -> None:
        recommended = advice(base)
        self.prompts = gr.Textbox(
            value,
            label="Prompts",
            info=f"One per line{hint}",
            placeholder=example,
            lines=3,
            elem_id=f"{prefix}-prompts",
        )
        self.negative = gr.Textbox(
            label="Negative prompt",
            placeholder="what should not be seen",
            elem_id=f"{prefix}-negative",
        )
        with gr.Row():
            self.count = gr.Slider(
                1, 8, 4, step=1, label="Pictures each", elem_id=f"{prefix}-num-images"
            )
            self.seed = gr.Number(0, label="First seed", elem_id=f"{prefix}-seed")
        with gr.Accordion("More", open=False) as self.more, gr.Row():
            self.steps = gr.Number(
                recommended.num_inference_steps, label="Steps", elem_id=f"{prefix}-steps"
            )
            self.guidance = gr.Number(
                recommended.guidance_scale,
                label="Guidance",
                info="Higher: closer to the words",
                elem_id=f"{prefix}-guidance",
            )
        self.fields = {
            self.prompts, self.negative, self.count, self.seed, self.steps, self.guidance,
        }  # fmt: skip

    def read(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        """The options of `generate` that the fields are about.

        Raises:
            UserError: the first field that cannot be as it is.
        """
        prompts = lines(data[self.prompts])
        if not prompts:
            raise UserError("The prompt is empty. Write what the pictures should show.")
        return {
            "prompt": prompts,
            "negative_prompt": (data[self.negative] or "").strip(),
            "num_images": whole("Pictures each", data[self.count], least=1, most=8),
            "seed": whole("First seed", data[self.seed], most=2**32 - 1),
            "num_inference_steps": whole("Steps", data[self.steps], least=1, most=1000),
            "guidance_scale": number("Guidance", data[self.guidance], least=0, most=100),
        }

    def advise(self, base: str) -> tuple[int, float]:
        """Steps and guidance as the makers of a base advise."""
        recommended = advice(base)
        return recommended.num_inference_steps, recommended.guidance_scale
