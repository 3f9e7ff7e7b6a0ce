"""Tab 'Generate': prompts and adapters in; images that stay."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gradio as gr

from orthodiff.errors import UserError
from orthodiff.schedulers import sampler_name

from ..api.describe import album
from ..html import elements as html
from ..services.settings.base import FieldError
from ..services.settings.images import ImageSettings
from ..state import Studio
from ..widgets.fields import Form, sampler_field
from ..widgets.parts import adapter_picker, bridge, part, read_adapters, read_object, upload_field
from ..words import say

PREFIX = "generate"
WAIT = 0.2
CHANGED = "() => window.studio.changed()"
RECIPE = (
    '(id) => { if (window.studioRecipe) window.dispatchEvent(new CustomEvent("studio-recipe", '
    "{ detail: window.studioRecipe })); }"
)
Data = Mapping[Any, Any]


class GenerateTab:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.form = Form(ImageSettings, PREFIX)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                self._form()
            with gr.Column(scale=7, min_width=320):
                part("od-gallery", elem_id="gallery")
        self._connect()

    def _form(self) -> None:
        self.adapters = adapter_picker(
            elem_id=f"{PREFIX}-adapters", label="Adapters", kind="subject", most=4,
            empty="There is no adapter yet. Train one under Train; until then the base model makes "
            "images by itself.", combine=True,
        )  # fmt: skip
        self.form.add(
            "prompts", value="a photo of {trigger} in the snow\na photo of {trigger} on the beach",
            lines=3,
        )  # fmt: skip
        self.form.add("negative_prompt")
        self.form.add_all(("num_images", "seed"))
        self.form.add("compare", value=True)
        with gr.Accordion(say("Steps, guidance and size"), open=False):
            self.base = gr.Dropdown(
                [(say("the adapters' own"), ""), *self.studio.base_choices()], value="",
                label=say("Base model"), elem_id=f"{PREFIX}-base",
            )  # fmt: skip
            self.form.fields["sampler"] = sampler_field(PREFIX)
            self.form.add_all(("num_inference_steps", "guidance_scale"))
            self.form.add_all(("width", "height"))
        with gr.Accordion(say("Grid over strengths and checkpoints"), open=False), gr.Row():
            self.strengths = gr.Textbox(
                label=say("Strengths"), placeholder="0, 0.5, 1", elem_id=f"{PREFIX}-strengths",
                info=say("Numbers with commas between"), min_width=150,
            )  # fmt: skip
            self.checkpoints = gr.Textbox(
                label=say("Checkpoints"), placeholder="100, 200, last", min_width=150,
                info=say("Steps that are kept, “last”, “recommended”"),
                elem_id=f"{PREFIX}-checkpoints",
            )  # fmt: skip
        with gr.Accordion(say("Make an image again"), open=False):
            self.again = upload_field(
                elem_id="recipe-upload", label="Drop an image of ours here",
                hint="PNG, JPEG or WebP. The form takes over the prompt, seed and settings inside.",
                most=1, quiet=True,
            )  # fmt: skip
        self.button = gr.Button(
            say("Generate"), variant="primary", size="lg", elem_id="generate-button"
        )
        self.message = gr.HTML(
            padding=False, elem_id="generate-message", elem_classes="form-message"
        )
        self.recipe = bridge("studio-recipe", elem_id="recipe-bridge")

    def _connect(self) -> None:
        private: dict[str, Any] = {
            "api_visibility": "private", "show_progress": "hidden", "queue": False,
        }  # fmt: skip
        inputs = {
            self.adapters,
            self.base,
            self.strengths,
            self.checkpoints,
            *self.form.fields.values(),
        }
        self.button.click(self.start, inputs, self.message, **private).then(
            None, None, js=CHANGED, **private
        )
        gr.api(
            self.make, api_name="generate", concurrency_limit=8, concurrency_id="images",
            api_description="Make images; the answer is where they are served.",
        )  # fmt: skip
        self.again.input(None, self.again, js=RECIPE, **private)
        self.recipe.input(self._fill, self.recipe, list(self.form.fields.values()), **private)

    def make(
        self,
        prompt: str,
        adapter: str = "",
        strength: float = 1.0,
        seed: int = 0,
        num_images: int = 1,
        request: gr.Request | None = None,
    ) -> list[str]:
        """For `gradio_client`: make images, wait for them, and say where they are served."""
        owner = str(request.username) if request else ""
        chosen = [{"id": adapter, "strength": strength}] if adapter else []
        values = {"prompts": [prompt], "seed": seed, "num_images": num_images, "adapters": chosen}
        try:
            job = self.studio.generate(owner, values)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        while job.is_active:
            time.sleep(WAIT)
            job = self.studio.jobs.get(owner, job.id)
        if job.status != "succeeded":
            raise gr.Error(job.error or f"The images were {job.status}.", print_exception=False)
        return [image.url for image in album(job)]

    def start(self, data: Data, request: gr.Request) -> str:
        """Check and queue images; the message beside the button."""
        try:
            values = self.form.values(data)
            values |= read_adapters(data[self.adapters])
            values["strengths"] = _numbers(data[self.strengths])
            values["checkpoints"] = _words(data[self.checkpoints])
            if data[self.base]:
                values["base"] = data[self.base]
            self.studio.generate(str(request.username), values)
        except UserError as error:
            return html.problem(error, prefix=PREFIX)
        return ""

    def _fill(self, value: str) -> list[Any]:
        """The fields as a recipe or an earlier request has them; others stay as they are."""
        recipe = read_object(value)
        values: dict[str, Any] = {name: recipe[name] for name in self.form.fields if name in recipe}
        if "prompt" in recipe and "prompts" not in recipe:
            values |= {"prompts": [recipe["prompt"]], "num_images": 1}
        if "sampler" in values:
            values["sampler"] = _sampler(values["sampler"])
        if isinstance(values.get("prompts"), list):
            values["prompts"] = "\n".join(str(line) for line in values["prompts"])
        return [_plain(values[name]) if name in values else gr.skip() for name in self.form.fields]


def _sampler(name: Any) -> str:
    """The sampler of a recipe, if there is such a one; the base's own has no name."""
    try:
        return sampler_name(str(name)) if name else ""
    except UserError:
        return ""


def _plain(value: Any) -> Any:
    """A value that a field can take, whatever a file said."""
    return value if value is None or isinstance(value, str | int | float | bool) else gr.skip()


def _words(text: str | None) -> list[str]:
    """What stands between commas."""
    words = ((text or "").replace(";", ",")).split(",")
    return [word.strip().lower() for word in words if word.strip()]


def _numbers(text: str | None) -> list[float]:
    """Numbers with commas between.

    Raises:
        FieldError: one is none.
    """
    try:
        return [float(word) for word in _words(text)]
    except ValueError as error:
        sentence = f"Strengths are numbers with commas between, not “{text}”."
        raise FieldError("strengths", sentence) from error
