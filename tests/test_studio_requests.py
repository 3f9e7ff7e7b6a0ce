"""What a form says is what is run: each field of a request, in the command or plan it leads to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orthodiff.studio.services.kinds.base import Offer
from orthodiff.studio.services.kinds.batch import prepare_batch
from orthodiff.studio.services.kinds.images import prepare_images
from orthodiff.studio.services.sampling.plan import AdapterPlan, ImagePlan, Pass
from orthodiff.studio.services.settings.base import FieldError, read_settings
from orthodiff.studio.services.settings.batch import BatchJobSettings
from orthodiff.studio.services.settings.images import ImageSettings, check_count
from orthodiff.studio.services.settings.limits import check_base, check_method, check_text
from orthodiff.studio.services.settings.methods import settings_of
from orthodiff.studio.services.settings.presets import preset_family
from orthodiff.studio.services.settings.subject import (
    SubjectSettings,
    sample_prompts,
    subject_config,
    training_prompt,
)

FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "class_word": ("cat", {"instance_prompt": "a photo of sks cat"}),
    "trigger": ("qx", {"instance_prompt": "a photo of qx dog"}),
    "prompt": ("mine", {"instance_prompt": "mine"}),
    "style": (True, {"instance_prompt": "dog in sks style"}),
    "method": ("oft", {"method": "oft"}),
    "method_settings": ({"rank": "6"}, {"rank": 6}),
    "max_train_steps": (77, {"max_train_steps": 77}),
    "learning_rate": (0.25, {"learning_rate": 0.25}),
    "train_batch_size": (3, {"train_batch_size": 3}),
    "seed": (5, {"seed": 5}),
    "resolution": (64, {"resolution": 64}),
    "mixed_precision": ("bf16", {"mixed_precision": "bf16"}),
    "alpha_mask": (True, {"alpha_mask": True}),
    "gradient_checkpointing": (True, {"gradient_checkpointing": True}),
    "validation_prompts": (("{trigger} x",), {"validation_prompt": ("sks x",)}),
    "validation_steps": (20, {"validation_steps": 20, "checkpointing_steps": 20}),
    "with_prior_preservation": (
        True,
        {"with_prior_preservation": True, "class_prompt": "a photo of a dog",
         "num_class_images": 100},
    ),
}  # fmt: skip
"""By field: another value than usual, and what the configuration says then."""
ELSEWHERE = {"base", "preset", "num_class_images"}


def config_of(tiny: Path, **values: Any) -> Any:
    settings = SubjectSettings(**{"class_word": "dog", **values})
    return subject_config(settings, base=str(tiny), folder=Path("run"))


def values_of(config: Any, names: Iterable[str]) -> dict[str, Any]:
    """What a configuration says, the rank of its method among it."""
    said = {**dict(config), "rank": getattr(config.adapter(), "rank", None)}
    return {name: said[name] for name in names}


class TestSubject:
    def test_every_field_is_looked_at_here(self) -> None:
        assert FIELDS.keys() | ELSEWHERE == SubjectSettings.model_fields.keys()

    @pytest.mark.parametrize("name", FIELDS)
    def test_a_field_reaches_the_training(self, tiny: Path, name: str) -> None:
        value, expected = FIELDS[name]
        usual, config = config_of(tiny), config_of(tiny, **{name: value})
        assert values_of(config, expected) == expected
        assert values_of(usual, expected) != expected

    def test_the_number_of_class_images_counts_with_prior_preservation(self, tiny: Path) -> None:
        asked = {"with_prior_preservation": True, "num_class_images": 7}
        assert config_of(tiny, **asked).num_class_images == 7
        with pytest.raises(FieldError, match="Prior preservation needs the class"):
            config_of(tiny, class_word=" ", prompt="mine", with_prior_preservation=True)

    def test_the_preset_sets_what_is_left_empty(self, tiny: Path) -> None:
        steps = [
            config_of(tiny, preset=preset).max_train_steps
            for preset in ("quick", "balanced", "faithful")
        ]
        assert steps == sorted(set(steps))
        assert config_of(tiny, preset="faithful", max_train_steps=9).max_train_steps == 9

    def test_the_run_lies_in_its_folder_and_keeps_few_checkpoints(self, tiny: Path) -> None:
        config = config_of(tiny)
        assert (config.output_dir, config.instance_data_dir) == (Path("run"), Path("run/photos"))
        assert config.pretrained_model_name_or_path == str(tiny)
        assert config.checkpoints_total_limit == 4

    @pytest.mark.parametrize(
        ("values", "prompt"),
        [
            ({"class_word": " toy duck "}, "a photo of sks toy duck"),
            ({"style": True}, "an image in sks style"),
            ({"style": True, "class_word": "ink"}, "ink in sks style"),
            ({"prompt": "  ", "class_word": "cat"}, "a photo of sks cat"),
        ],
    )
    def test_the_prompt_follows_from_the_words(self, values: Any, prompt: str) -> None:
        settings = SubjectSettings(**values)
        assert training_prompt(settings) == prompt
        assert sample_prompts(settings) == (f"{prompt} in the snow", f"{prompt} on the beach")

    @pytest.mark.parametrize("sign", ["\n", "\x00", "\x1b"])
    def test_prompts_are_one_line_of_text(self, sign: str) -> None:
        with pytest.raises(FieldError, match="plain text on one line"):
            check_text("prompt", f"a{sign}b")
        assert check_text("prompt", "é 日本") == "é 日本"


class TestMethod:
    def test_a_rank_may_be_as_large_as_the_narrowest_layer(self, tiny: Path) -> None:
        unet = json.loads((tiny / "unet" / "config.json").read_text())
        kinds = zip(unet["down_block_types"], unet["block_out_channels"], strict=True)
        widths = [width for kind, width in kinds if "Attn" in kind]
        narrowest = min([*widths, unet["cross_attention_dim"]])
        assert check_method("lora", {"rank": narrowest}, str(tiny)) == {"rank": narrowest}
        with pytest.raises(FieldError, match=f"Use at most {narrowest};") as told:
            check_method("lora", {"rank": narrowest + 1}, str(tiny))
        assert told.value.field == "method_settings"
        assert check_method("lora", {"rank": 10**6}, "nobody/knows") == {"rank": 10**6}

    def test_empty_fields_are_left_to_the_method(self, tiny: Path) -> None:
        given = {"rank": "4", "lora_dropout": "0.5", "alpha": ""}
        assert check_method("lora", given, str(tiny)) == {"rank": 4, "lora_dropout": 0.5}
        assert check_method("hra", {"strict": 0, "rank": None}, str(tiny)) == {"strict": False}

    @pytest.mark.parametrize(
        ("method", "values", "words"),
        [
            ("hre", {}, "`hre` is not a method"),
            ("hra", {"size": 3}, "`size` is not a setting of hra"),
            ("hra", {"rank": "many"}, "Rank is no number"),
            ("hra", {"rank": True}, "Rank is no number"),
            ("hra", {"rank": "nan"}, "Rank is no number"),
            ("hra", {"rank": 2.5}, "Rank is 2.5, but it must be a whole number. Use 2."),
            ("hra", {"rank": 3}, "even rank"),
        ],
    )
    def test_what_cannot_be_is_told(self, tiny: Path, method: str, values: Any, words: str) -> None:
        with pytest.raises(FieldError, match=words):
            check_method(method, values, str(tiny))

    def test_what_is_off_unless_asked_for_is_an_extra(self) -> None:
        settings = {setting.name: setting for setting in settings_of("oft")}
        assert settings["eps"].is_extra
        assert settings["eps"].optional
        assert not settings["block_size"].is_extra
        assert settings["block_share"].kind is bool
        assert settings["block_size"].label == "Block size"


class TestBase:
    def test_a_base_is_known_by_its_path_or_its_name(self) -> None:
        bases = ["/models/one", "me/two"]
        assert [check_base(name, bases) for name in (None, "me/two", "one")] == [
            "/models/one", "me/two", "/models/one",
        ]  # fmt: skip
        with pytest.raises(FieldError, match="Choose one of one, two"):
            check_base("/etc", bases)

    @pytest.mark.parametrize(
        ("samples", "family"), [(32, "demo"), (33, "sd"), (96, "sd"), (97, "sdxl")]
    )
    def test_the_family_follows_from_the_side(
        self, tmp_path: Path, samples: int, family: str
    ) -> None:
        for part, config in (("unet", {"sample_size": samples}), ("vae", {
            "block_out_channels": [1, 1, 1, 1]})):  # fmt: skip
            (tmp_path / part).mkdir()
            (tmp_path / part / "config.json").write_text(json.dumps(config))
        assert preset_family(str(tmp_path)) == family


class TestImages:
    @pytest.fixture
    def offer(self, tiny: Path) -> Offer:
        adapters = {
            name: SimpleNamespace(
                name=name, trigger=f"sks{name}", recipe={"base": str(tiny)},
                weights=lambda which, name=name: f"/{name}/{which}",
            )
            for name in "ab"
        }  # fmt: skip
        library: Any = SimpleNamespace(get=lambda owner, key: adapters[key])
        nobody: Any = None
        return Offer([str(tiny)], {}, nobody, library)

    @staticmethod
    def plan_of(offer: Offer, folder: Path, **values: Any) -> ImagePlan:
        settings = ImageSettings(**{"prompts": ("a dog",), **values})
        prepare_images(offer, "ann", settings).fill(folder, folder)
        return ImagePlan.load(folder)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"prompts": ("a", " ", " b ")}, {"prompts": ("a", "b")}),
            ({"num_images": 3, "seed": 7}, {"seeds": (7, 8, 9)}),
            ({"negative_prompt": " bad "}, {"negative_prompt": "bad"}),
            ({"num_inference_steps": 9}, {"num_inference_steps": 9}),
            ({"guidance_scale": 0.5}, {"guidance_scale": 0.5}),
            ({"width": 64, "height": 96}, {"width": 64, "height": 96}),
            ({"sampler": "euler"}, {"sampler": "euler"}),
            ({}, {"sampler": None, "width": None, "guidance_scale": None}),
            (
                {"control_strength": 0.5, "control_start": 0.1, "control_end": 0.9},
                {"control_strength": 0.5, "control_start": 0.1, "control_end": 0.9},
            ),
        ],
    )
    def test_a_field_reaches_the_plan(
        self, offer: Offer, tmp_path: Path, values: Any, expected: Any
    ) -> None:
        plan = self.plan_of(offer, tmp_path, **values)
        assert {name: getattr(plan, name) for name in expected} == expected
        assert plan.base == offer.bases[0]

    def test_the_passes_are_the_base_and_the_adapters_at_each_strength(
        self, offer: Offer, tmp_path: Path
    ) -> None:
        uses = [{"id": "a", "strength": 0.5, "checkpoint": "last"}, {"id": "b"}]
        a, b = AdapterPlan("/a/last", "a", 0.5), AdapterPlan("/b/recommended", "b", 1.0)
        plan = self.plan_of(offer, tmp_path, adapters=uses)
        assert plan.passes == (Pass("Adapted", (a, b)),)
        plan = self.plan_of(offer, tmp_path, adapters=uses, compare=True)
        assert plan.passes == (Pass("Base"), Pass("Adapted", (a, b)))
        plan = self.plan_of(offer, tmp_path, adapters=uses[:1], strengths=(0, 1.5))
        assert [one.label for one in plan.passes] == ["Strength 0", "Strength 1.5"]
        assert [one.adapters[0].strength for one in plan.passes] == [0, 1.5]
        assert self.plan_of(offer, tmp_path).passes == (Pass("Base"),)

    def test_the_trigger_is_that_of_the_first_adapter(self, offer: Offer, tmp_path: Path) -> None:
        asked = {"prompts": ("a {trigger}, {trigger}",)}
        plan = self.plan_of(offer, tmp_path, adapters=[{"id": "b"}, {"id": "a"}], **asked)
        assert plan.prompts == ("a sksb, sksb",)
        with pytest.raises(FieldError, match="no adapter that has a trigger word"):
            self.plan_of(offer, tmp_path, **asked)

    def test_as_many_as_one_may_ask_for(self) -> None:
        for values, count in (
            ({"prompts": ("a", "b"), "num_images": 32}, 64),
            ({"prompts": ("a",), "num_images": 32, "strengths": (0, 1)}, 64),
        ):
            settings = ImageSettings(**values)
            assert settings.count == count
            check_count(settings)
            with pytest.raises(FieldError, match="64 images at once are too many"):
                check_count(settings, most=63)

    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({"prompts": (" ",)}, "prompts"),
            ({"prompts": ("a" * 1001,)}, "prompts"),
            ({"prompts": ("a\x00",)}, "prompts"),
            ({"sampler": "eulr"}, "sampler"),
            ({"control_start": 0.5, "control_end": 0.5}, "control_start"),
            ({"num_images": 65}, "num_images"),
            ({"adapters": [{"id": "a", "strength": 2.1}]}, "adapters"),
            ({"adapters": [{"id": "a", "checkpoint": "../x"}]}, "adapters"),
            ({"images": 3}, "images"),
        ],
    )
    def test_what_cannot_be_is_told_beside_its_field(self, values: Any, field: str) -> None:
        with pytest.raises(FieldError) as told:
            read_settings(ImageSettings, {"prompts": ("a" * 1000,), **values})
        assert told.value.field == field

    def test_a_batch_has_a_row_for_each_image(self, offer: Offer, tmp_path: Path) -> None:
        settings = BatchJobSettings(
            adapters=[{"id": "a", "strength": 0.5}, {"id": "b"}],
            prompts=("a {red|blue} {trigger}",),
            negative_prompt="{x} $y __z__",
            num_images=2,
            seed=5,
            guidance_scale=3.0,
            sampler="euler",
        )
        words = prepare_batch(offer, "ann", settings).fill(tmp_path, Path("/there"))
        rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert [(row["prompt"], row["seed"], row["strength"]) for row in rows] == [
            (f"a {colour} sks{name}", seed, strength)
            for name, strength in (("a", 0.5), ("b", 1.0))
            for colour in ("red", "blue")
            for seed in (5, 6)
        ]
        assert {tuple(row["adapter"]) for row in rows} == {
            ("/a/recommended",), ("/b/recommended",),
        }  # fmt: skip
        assert {row["guidance_scale"] for row in rows} == {3.0}
        assert {row["sampler"] for row in rows} == {"euler"}
        assert {row["negative_prompt"] for row in rows} == {r"\{x} \$y \__z\__"}
        assert "num_inference_steps" not in rows[0]
        assert words[:2] == ["generate", "--prompts=/there/rows.jsonl"]
        assert "--output_dir=/there/out" in words
