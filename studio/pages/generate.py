"""Tab 'Generate': prompts in; the base's and the adapter's pictures out, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gradio as gr

from orthodiff.checkpoint import read_metadata
from orthodiff.commands import GenerateOptions
from orthodiff.errors import UserError
from orthodiff.flags import validate
from studio import cards, grids
from studio.forms import lines, number, whole
from studio.painter import advice
from studio.request import in_contexts
from studio.studio import Studio, base_title, shown

Data = Mapping[Any, Any]


class Generate:
    """The components of the tab, and what happens when one of them is used."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340):
                self._form()
            with gr.Column(scale=7, min_width=420):
                self._pictures()
        self._connect()

    def _form(self) -> None:
        recommended = advice(self.studio.bases[0])
        self.run = gr.Dropdown([], label="Run", info="A finished training", elem_id="generate-run")
        self.base = gr.Dropdown(
            self.studio.base_choices(), value=self.studio.bases[0], label="Base model"
        )
        self.prompts = gr.Textbox(
            label="Prompts",
            info="One per line; name the subject as in training",
            placeholder="a photo of sks dog in the snow",
            lines=3,
            elem_id="prompts",
        )
        self.negative = gr.Textbox(
            label="Negative prompt", placeholder="what should not be seen", elem_id="negative"
        )
        with gr.Row():
            self.count = gr.Slider(1, 8, 4, step=1, label="Pictures each", elem_id="num-images")
            self.seed = gr.Number(0, label="First seed", elem_id="generate-seed")
        self.strength = gr.Slider(
            0,
            1.5,
            1,
            step=0.05,
            label="Strength",
            info="0: the base model. 1: as trained. Beyond: more of it",
            elem_id="strength",
        )
        with gr.Accordion("More", open=False), gr.Row():
            self.steps = gr.Number(
                recommended.num_inference_steps, label="Steps", elem_id="generate-steps"
            )
            self.guidance = gr.Number(
                recommended.guidance_scale,
                label="Guidance",
                info="Higher: closer to the words",
                elem_id="guidance",
            )
        self.compare = gr.Checkbox(True, label="Show the base model beside it")
        self.button = gr.Button("Generate", variant="primary", size="lg", elem_id="generate-button")
        self.message = gr.HTML(padding=False, elem_id="generate-message")

    def _pictures(self) -> None:
        self.status = gr.HTML(
            '<div class="card empty"><b>Pictures appear here</b><p>The base model above, your '
            "adapter below, from the same seeds: only the training makes the difference.</p></div>",
            padding=False,
            elem_id="generate-status",
        )
        self.pictures = gr.HTML(padding=False, elem_id="pictures")
        self.archive = gr.DownloadButton(
            "Download all, with recipes", visible=False, elem_id="download"
        )

    def _connect(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self.before = gr.State({"names": [], "run": None})
        self.chosen = [self.before, self.run, self.base, self.prompts, self.message]
        self.run.input(self.choose, [self.run, self.before], self.chosen, **private)
        self.base.input(self._advise, self.base, [self.steps, self.guidance], **private)
        self.refreshing = {
            "fn": self.refresh,
            "inputs": [self.run, self.before],
            "outputs": self.chosen,
            "concurrency_limit": None,
            **private,
        }
        fields = {
            self.run, self.base, self.prompts, self.negative, self.count, self.seed,
            self.strength, self.steps, self.guidance, self.compare,
        }  # fmt: skip
        shown_after = [
            self.message, self.status, self.pictures, self.archive,
        ]  # fmt: skip
        self.button.click(
            self.generate,
            fields,
            shown_after,
            api_visibility="private",
            show_progress_on=[self.status],
        )

    def refresh(self, chosen: str | None, before: Mapping[str, Any]) -> list[Any]:
        """Offer the runs that are finished by now; choose the newest where none is chosen."""
        names = self.studio.store.finished()
        if names == before["names"]:
            return [gr.skip()] * 5
        return self.choose(chosen if chosen in names else next(iter(names), None), before)

    def choose(self, name: str | None, before: Mapping[str, Any]) -> list[Any]:
        """A run that was not chosen before brings its base, and prompts that name its subject."""
        names = self.studio.store.finished()
        head = [{"names": names, "run": name}, gr.Dropdown(choices=names, value=name)]
        if name is None or name == before["run"]:
            return [*head, *[gr.skip()] * 3]
        try:
            recipe = read_metadata(self.studio.store.folder(name))
        except UserError as error:
            return [*head, gr.skip(), gr.skip(), cards.problem(str(error))]
        base, prompt = recipe.get("base", ""), recipe.get("instance_prompt", "")
        prompts = in_contexts(prompt) if prompt else gr.skip()
        if base in self.studio.bases:
            return [*head, gr.Dropdown(value=base), prompts, ""]
        told = f"It was trained on {base_title(base)}, which is not offered here." if base else ""
        return [*head, gr.skip(), prompts, cards.note(told)]

    def generate(self, data: Data, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
        """Make the pictures; the message, the status line, the pictures and the download."""
        try:
            options = self._options(data)
            painted = self.studio.painter.paint(
                options,
                compare=bool(data[self.compare]),
                on_progress=lambda share, text: progress(share, desc=text),
            )
        except UserError as error:
            return [cards.problem(str(error)), *[gr.skip()] * 3]
        told = f"{len(painted.adapted)} pictures in {cards.duration(painted.seconds)}"
        return [
            "",
            cards.note(f"{told}, kept in {options.output_dir}"),
            grids.comparison(painted),
            gr.DownloadButton(value=shown(painted.archive), visible=True),
        ]

    def _options(self, data: Data) -> GenerateOptions:
        """The checked request.

        Raises:
            UserError: the first field that cannot be as it is.
        """
        if data[self.base] not in self.studio.bases:
            raise UserError("This base model is not offered here. Choose one from the list.")
        if not data[self.run]:
            raise UserError("There is no finished run to paint with yet. Train one first.")
        prompts = lines(data[self.prompts])
        if not prompts:
            raise UserError("The prompt is empty. Write what the pictures should show.")
        folder = self.studio.store.folder(data[self.run])
        stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() // 10**6 % 1000:03d}"
        values = {
            "pretrained_model_name_or_path": data[self.base],
            "adapter": [folder],
            "prompt": prompts,
            "negative_prompt": (data[self.negative] or "").strip(),
            "num_images": whole("Pictures each", data[self.count], least=1, most=8),
            "seed": whole("First seed", data[self.seed], most=2**32 - 1),
            "strength": number("Strength", data[self.strength], least=0, most=2),
            "num_inference_steps": whole("Steps", data[self.steps], least=1, most=1000),
            "guidance_scale": number("Guidance", data[self.guidance], least=0, most=100),
            "output_dir": folder / "pictures" / stamp,
        }
        return validate(GenerateOptions, values)

    def _advise(self, base: str) -> tuple[int, float]:
        recommended = advice(base)
        return recommended.num_inference_steps, recommended.guidance_scale
