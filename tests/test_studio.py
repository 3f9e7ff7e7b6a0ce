"""The studio's parts without a browser: forms, settings, presets, users, estimates."""

import asyncio
import dataclasses
import time
from pathlib import Path

import gradio as gr
import pytest

from orthodiff import ADAPTERS
from orthodiff.errors import UserError
from orthodiff.studio.html import elements as html
from orthodiff.studio.security.rate_limit import LoginLimit
from orthodiff.studio.security.users import add_user, read_users, token_digest
from orthodiff.studio.serve import Serving, check_bases, runs_folder
from orthodiff.studio.services.estimate import estimate
from orthodiff.studio.services.jobs.job import Job, new_id
from orthodiff.studio.services.jobs.store import JobStore
from orthodiff.studio.services.jobs.tables import open_database, sqlite_url
from orthodiff.studio.services.photos import read_examples
from orthodiff.studio.services.settings.base import FieldError, read_settings
from orthodiff.studio.services.settings.images import ImageSettings
from orthodiff.studio.services.settings.methods import settings_of
from orthodiff.studio.services.settings.presets import advise, preset_family
from orthodiff.studio.services.settings.subject import (
    SubjectSettings,
    sample_prompts,
    subject_config,
    training_prompt,
)
from orthodiff.studio.widgets.fields import Form
from orthodiff.studio.widgets.parts import adapter_picker, read_list
from tests.runs import ROOT

POCKET = str(ROOT / "assets" / "pocket")


@pytest.mark.parametrize("method", ADAPTERS)
def test_every_method_s_form_gives_its_defaults(method: str) -> None:
    settings = settings_of(method)
    given = {s.name: s.parse(s.default) for s in settings if s.default is not None}
    assert ADAPTERS[method](**given) == ADAPTERS[method]()
    assert all(setting.help for setting in settings)


@pytest.mark.parametrize("model", [SubjectSettings, ImageSettings])
def test_every_setting_has_a_label(model: type) -> None:
    assert all(field.title for field in model.model_fields.values())


def test_an_untouched_form_is_read_as_the_defaults() -> None:
    async def build() -> Form:
        with gr.Blocks():
            form = Form(SubjectSettings, "train")
            for name in ("class_word", "preset", "max_train_steps", "style", "seed"):
                form.add(name)
            return form

    form = asyncio.run(build())
    data = {field: field.value for field in form.fields.values()}
    assert read_settings(SubjectSettings, form.values(data)) == SubjectSettings()
    data[form.fields["max_train_steps"]] = " 250 "
    assert read_settings(SubjectSettings, form.values(data)).max_train_steps == 250
    data[form.fields["max_train_steps"]] = "many"
    with pytest.raises(FieldError, match="Steps is 'many'") as told:
        read_settings(SubjectSettings, form.values(data))
    assert told.value.field == "max_train_steps"


def test_prompts_follow_from_the_words() -> None:
    assert training_prompt(SubjectSettings(class_word="toy duck")) == "a photo of sks toy duck"
    assert training_prompt(SubjectSettings(style=True, trigger="qx")) == "an image in qx style"
    own = SubjectSettings(
        class_word="dog", prompt="my dog", validation_prompts=("{trigger} x", " ")
    )
    assert training_prompt(own) == "my dog"
    assert sample_prompts(own) == ("sks x",)
    assert sample_prompts(SubjectSettings(class_word="cat"))[0] == "a photo of sks cat in the snow"
    with pytest.raises(FieldError, match="Say what is on the photos"):
        training_prompt(SubjectSettings())


def test_settings_become_a_configuration(tmp_path: Path) -> None:
    settings = SubjectSettings(class_word="dog", method_settings={"rank": 4}, max_train_steps=7)
    config = subject_config(settings, base=POCKET, folder=tmp_path)
    assert config.output_dir == tmp_path
    assert config.instance_data_dir == tmp_path / "photos"
    assert config.adapter() == ADAPTERS["hra"](rank=4)
    assert (config.max_train_steps, config.learning_rate, config.train_batch_size) == (7, 3e-3, 4)


@pytest.mark.parametrize(
    ("base", "family", "rate", "batch"),
    [
        (POCKET, "demo", 3e-3, 4),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd", 1e-4, 1),
        ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl", 1e-4, 1),
    ],
)
def test_a_real_base_gets_no_settings_of_the_demo(
    base: str, family: str, rate: float, batch: int
) -> None:
    assert preset_family(base) == family
    advice = advise(base, "hra", "balanced")
    assert (advice.learning_rate, advice.train_batch_size) == (rate, batch)
    steps = [advise(base, "hra", preset).max_train_steps for preset in ("quick", "faithful")]
    assert steps[0] < advice.max_train_steps < steps[1]


def test_an_estimate_is_measured_by_trainings_alike(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "x.db"))
    store, settings = JobStore(engine), SubjectSettings(class_word="dog")
    assert estimate(store, settings, POCKET).seconds is None
    now = time.time()
    job = Job(
        new_id(), "dreambooth", "ann", "run", "succeeded", tmp_path, now,
        request={"base": "pocket", "method": "hra", "train_batch_size": 2},
        summary={"step": 100, "peak_memory": 1.5e9}, attempt=1, started=now - 50, ended=now,
    )  # fmt: skip
    store.add(job)
    store.add(dataclasses.replace(job, id=new_id(), request={**job.request, "method": "oft"}))
    found = estimate(store, settings, POCKET)
    assert found.seconds == pytest.approx(0.25 * found.steps * found.batch)
    assert ("Memory, measured here", "1.5 GB") in found.lines
    engine.dispose()


def test_the_example_subjects_are_complete() -> None:
    examples = read_examples(ROOT / "assets" / "subjects")
    assert len(examples) >= 6
    for example in examples.values():
        assert example.class_word
        assert len(example.images) >= 3


def test_what_others_wrote_is_escaped() -> None:
    pieces = [
        html.problem(FieldError("<i>", "<script>")), html.note("<script>"),
        html.facts([("<script>", "<script>")], title="<script>"), html.heading(1, "<script>"),
    ]  # fmt: skip
    assert "<script>" not in "".join(pieces)
    assert 'data-field="train-&lt;i&gt;"' in html.problem(FieldError("<i>", "x"), prefix="train")


def test_text_cannot_leave_its_template() -> None:
    async def build() -> str:
        with gr.Blocks():
            return adapter_picker(
                elem_id="a", label='`${alert(1)}"><script>', kind="k", most=1, empty=""
            ).html_template

    template = asyncio.run(build())
    assert [sign for sign in ("`", "${", "<script>") if sign in template] == []


@pytest.mark.parametrize("value", ["", "{", "[1, 2]", '"x"', None, '{"a": 1}'])
def test_a_list_of_adapters_is_one_or_nothing(value: str | None) -> None:
    assert read_list(value) == []


def test_durations() -> None:
    assert [html.duration(s) for s in (41.6, 185, 7800)] == ["42 s", "3 min 05 s", "2 h 10 min"]


def test_users_are_added_and_known_by_their_tokens(tmp_path: Path) -> None:
    path = tmp_path / "users"
    tokens = {name: add_user(path, name) for name in ("ann", "bob")}
    users = read_users(path)
    assert path.stat().st_mode & 0o077 == 0
    assert users.first == "ann"
    for name, token in tokens.items():
        assert users.owner_of(token) == name
        assert token not in path.read_text()
    assert users.owner_of("guess") is None
    renewed = add_user(path, "ann")
    assert read_users(path).owner_of(tokens["ann"]) is None
    assert read_users(path).owner_of(renewed) == "ann"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ann", "no user"),
        (f"../x {'0' * 64}", "no user"),
        ("", "has no user"),
        ("ann xyz", "Line 1"),
    ],
)
def test_a_bad_file_of_users_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "users").write_text(text)
    with pytest.raises(UserError, match=told):
        read_users(tmp_path / "users")


def test_a_short_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHODIFF_TOKEN", "secret")
    with pytest.raises(UserError, match="can be guessed"):
        read_users(None)
    monkeypatch.setenv("ORTHODIFF_TOKEN", "x" * 24)
    assert read_users(None).digests == {"owner": token_digest("x" * 24)}


def test_logins_are_limited_per_address_and_for_all() -> None:
    now = [0.0]
    limit = LoginLimit(clock=lambda: now[0])
    for _ in range(5):
        assert limit.is_open("a")
        limit.failed("a")
    assert not limit.is_open("a")
    assert limit.is_open("b")
    for number in range(45):
        limit.failed(str(number))
    assert not limit.is_open("c")
    now[0] = 61.0
    assert limit.is_open("a")


def test_bases_are_checked_before_the_page_opens(tiny: Path, tmp_path: Path) -> None:
    check_bases([str(tiny), "stable-diffusion-v1-5/stable-diffusion-v1-5"])
    for name, told in ((tmp_path, "no model_index.json"), ("assets/nothing", "does not exist")):
        with pytest.raises(UserError, match=told):
            check_bases([str(name)])


def test_runs_live_where_earlier_ones_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs_folder(Serving(data=tmp_path / "data")) == tmp_path / "data" / "runs"
    (tmp_path / "runs").mkdir()
    assert runs_folder(Serving(data=tmp_path / "data")) == Path("runs")
    assert runs_folder(Serving(runs=Path("mine"))) == Path("mine")
