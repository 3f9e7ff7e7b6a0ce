"""One model is the source of YAML, flags and checks."""

from pathlib import Path

import pytest

from orthodiff.adapters.targets import ATTENTION
from orthodiff.errors import UserError
from orthodiff.training.cli.main import main
from orthodiff.training.options.config import parse_config
from orthodiff.training.tasks.control import ControlConfig
from orthodiff.training.tasks.dreambooth import DreamBoothConfig

ROOT = Path(__file__).parent.parent
NEEDED = [
    "--pretrained_model_name_or_path=base",
    "--instance_data_dir=photos",
    "--instance_prompt=a photo of sks dog",
]
DIFFUSERS = """
--pretrained_model_name_or_path base --instance_data_dir dog --output_dir out --resolution 512
--class_data_dir class --with_prior_preservation --prior_loss_weight 1.0 --num_class_images 200
--train_batch_size 1 --gradient_accumulation_steps 2 --gradient_checkpointing --use_8bit_adam
--learning_rate 1e-4 --lr_scheduler cosine --lr_warmup_steps 5 --max_train_steps 500
--checkpointing_steps 100 --checkpoints_total_limit 2 --resume_from_checkpoint latest
--mixed_precision fp16 --snr_gamma 5.0 --num_validation_images 2 --validation_steps 50 --seed 0
--report_to tensorboard --revision main --variant fp16 --sample_batch_size 4 --scale_lr --rank 4
--adam_beta1 0.9 --adam_beta2 0.999 --adam_weight_decay 1e-2 --adam_epsilon 1e-8 --lr_num_cycles 1
--lr_power 1.0 --max_grad_norm 1.0 --logging_dir logs --allow_tf32 --center_crop
"""


def read(*flags: str) -> DreamBoothConfig:
    return parse_config([*NEEDED, *flags], DreamBoothConfig, prog="test")


def test_diffusers_flags_are_understood() -> None:
    prompts = ["--instance_prompt", "sks dog", "--class_prompt", "dog", "--validation_prompt", "x"]
    config = parse_config([*DIFFUSERS.split(), *prompts], DreamBoothConfig, prog="test")
    assert config.adam_weight_decay == 1e-2
    assert config.with_prior_preservation
    assert config.optimizer == "adamw8bit"
    assert config.validation_prompt == ("x",)
    assert config.settings == {"rank": "4"}
    assert config.adapter().rank == 4


def test_flags_win_over_yaml_and_yaml_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 3\nmax_train_steps: 7\nrank: 4\n")
    config = read(f"--config={path}", "--seed=5")
    assert (config.seed, config.max_train_steps, config.adapter().rank) == (5, 7, 4)


def test_epochs_as_flags_win_over_steps_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("max_train_steps: 400\nvalidation_steps: 50\n")
    config = read(f"--config={path}", "--num_train_epochs=2", "--validation_epochs=1")
    counted = config.counted(examples=8, processes=1)
    assert (counted.max_train_steps, counted.validation_steps) == (4, 2)
    both = read(f"--config={path}", "--num_train_epochs=2", "--max_train_steps=9")
    assert both.counted(examples=8, processes=1).max_train_steps == 9


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--lr_warmup_steps=5"], "constant_with_warmup"),
        (["--lr_power=2"], "polynomial"),
        (["--lr_num_cycles=2", "--lr_scheduler=cosine"], "cosine_with_restarts"),
        (["--num_crops=2"], "neither cut at random nor tinted"),
    ],
)
def test_what_has_no_effect_is_told(flags: list[str], told: str) -> None:
    (note,) = read(*flags).notes()
    assert "has no effect" in note
    assert told in note
    assert not read("--lr_warmup_steps=5", "--optimizer=schedulefree").notes()
    assert not read("--num_crops=2", "--crop=random").notes()


@pytest.mark.parametrize(
    ("flags", "needed"),
    [
        (["--class_prompt=a dog"], "--with_prior_preservation"),
        (["--prior_loss_weight=0.5"], "--with_prior_preservation"),
        (["--num_class_images=9"], "--with_prior_preservation"),
        (["--ema_decay=0.9"], "--use_ema"),
    ],
)
def test_what_needs_a_switch_says_which(flags: list[str], needed: str) -> None:
    (note,) = read(*flags).notes()
    name = flags[0][2:].split("=")[0]
    assert f"`{name}` has no effect" in note
    assert needed in note
    switches = ["--with_prior_preservation", "--class_prompt=a dog", "--use_ema"]
    assert not read(*switches, *flags).notes()


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([], ["--learning_rate=3e-3"]),
        (["--optimizer=schedulefree"], ["--optimizer=schedulefree", "--learning_rate=0.003"]),
        ([], ["--crop=center"]),
        ([], ["--center_crop"]),
        (["--crop=random"], ["--center_crop=false"]),
        ([], ["--mixed_precision=no"]),
        ([], ["--num_class_images=9", "--class_prompt=a dog", "--prior_loss_weight=2"]),
        ([], ["--ema_decay=0.9"]),
        ([], ["--num_crops=9", "--num_shuffles=3"]),
        ([], ["--lr_warmup_steps=5", "--lr_num_cycles=2", "--lr_power=2"]),
        (["--placeholder_token=sks"], ["--placeholder_token=sks", "--token_learning_rate=5e-3"]),
        (["--use_8bit_adam"], ["--optimizer=adamw8bit"]),
        ([], ["--target_modules", *ATTENTION]),
    ],
)
def test_what_comes_to_the_same_is_the_same_run(before: list[str], now: list[str]) -> None:
    for one, other in ((before, now), (now, before)):
        assert read(*one).difference(read(*other).resolved()) is None


@pytest.mark.parametrize(
    ("before", "now", "name"),
    [
        ([], ["--learning_rate=1e-3"], "learning_rate"),
        ([], ["--optimizer=prodigy"], "optimizer"),
        (["--learning_rate=3e-3"], ["--method=oft"], "method"),
        ([], ["--center_crop=false"], "crop"),
        (["--crop=random"], ["--crop=random", "--num_crops=9"], "num_crops"),
        (["--color_jitter=0.1", "--num_crops=2"], [], "num_crops"),
        ([], ["--mixed_precision=bf16"], "mixed_precision"),
        ([], ["--with_prior_preservation", "--class_prompt=a dog"], "class_prompt"),
        (["--use_ema"], ["--use_ema", "--ema_decay=0.9"], "ema_decay"),
        (["--ema_decay=0.9"], ["--use_ema"], "use_ema"),
        (
            ["--lr_scheduler=constant_with_warmup"],
            ["--lr_scheduler=constant_with_warmup", "--lr_warmup_steps=5"],
            "lr_warmup_steps",
        ),
        (["--lr_power=2"], ["--lr_scheduler=polynomial"], "lr_scheduler"),
        (["--rank=4"], ["--rank=8"], "rank"),
        ([], ["--resolution=64"], "resolution"),
        ([], ["--use_8bit_adam"], "optimizer"),
        ([], ["--target_modules=to_q"], "target_modules"),
    ],
)
def test_another_run_is_told_by_a_setting(before: list[str], now: list[str], name: str) -> None:
    assert read(*now).difference(read(*before).resolved()) == name


def test_a_checkpoint_that_holds_aliases_is_understood() -> None:
    saved = {**read().resolved(), "use_8bit_adam": False, "crop": None, "center_crop": True}
    assert read().difference(saved) is None
    assert read().difference({**saved, "center_crop": False}) == "crop"
    assert read("--crop=random").difference({**saved, "center_crop": False}) is None
    assert read("--use_8bit_adam").difference({**saved, "optimizer": "adamw8bit"}) is None


def test_a_run_from_before_an_option_was_there_is_the_same_run() -> None:
    config = read("--max_train_steps=1")
    for name in ("target_modules", "num_crops"):
        saved = {key: value for key, value in config.resolved().items() if key != name}
        assert config.difference(saved) is None


def test_another_method_drops_the_settings_of_the_yaml_s_method(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("method: hra\nrank: 4\n")
    assert read(f"--config={path}", "--method=boft").settings == {}


def test_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    config = read("--method=boft", "--block_size=4", "--validation_prompt=a", "--snr_gamma=5")
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    again = parse_config([f"--config={path}"], DreamBoothConfig, prog="test")
    assert again.to_yaml() == config.to_yaml()
    assert again.adapter() == config.adapter()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_loads_and_has_its_header(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    if "python -m training control" in header:
        parse_config([f"--config={path}", "--train_data_dir=x"], ControlConfig, prog="test")
    else:
        flags = ["--instance_data_dir=x", "--instance_prompt=sks dog"]
        parse_config([f"--config={path}", *flags], DreamBoothConfig, prog="test")
    for word in ("Purpose:", "Command:", "Memory:", "Minutes:", "Expected:"):
        assert word in header


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lerning_rate=1"], ["--lerning_rate", "--learning_rate"]),
        (["--method=haa"], ["`haa`", "hra"]),
        (["--method=boft", "--rank=4"], ["`rank`", "boft", "block_size"]),
        (["--rank=four"], ["`rank`", "'four'", "whole number"]),
        (["--max_train_steps=0"], ["`max_train_steps`", "greater than or equal to 1"]),
        (["--lr_scheduler=cosin"], ["`lr_scheduler`", "cosine"]),
        (["--with_prior_preservation"], ["--class_prompt"]),
        (["--class_data_dir=x"], ["--with_prior_preservation"]),
        (["--seed"], ["seed", "expected one argument"]),
        (["stray"], ["`stray`"]),
        (["--output_dir="], ["`output_dir` is empty"]),
        (["--class_data_dir", ""], ["`class_data_dir` is empty"]),
    ],
)
def test_bad_flags_are_named_with_a_remedy(flags: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read(*flags)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lerning_rate: 1\n", ["`lerning_rate`", "`learning_rate`"]),
        ("a: [\n", ["not valid YAML"]),
        ("just words\n", ["name: value"]),
        ("settings: {rank: 2}\n", ["`settings`", "`rank: 8` on a line of its own"]),
        ("settigns: 1\n", ["`settigns`", "not a setting"]),
        ("seed: 1\nrank: 2\nseed: 2\n", ["`seed`", "twice", "lines 1 and 3"]),
        ("validation_prompt: {a: 1, b: 2, a: 3}\n", ["`a`", "twice"]),
        ("? [1]\n: 2\n", ["not valid YAML"]),
    ],
)
def test_bad_yaml_is_named_with_a_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(f"--config={path}")
    for word in words:
        assert word in str(caught.value)
    assert "Did you mean `settings`" not in str(caught.value)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        read(f"--config={tmp_path}")


def test_missing_settings_are_asked_for() -> None:
    with pytest.raises(UserError, match="`pretrained_model_name_or_path` is missing"):
        parse_config([], DreamBoothConfig, prog="test")


def test_a_saved_run_replaces_nothing_when_it_is_read_again() -> None:
    assert "overwrite_output_dir" not in read("--overwrite_output_dir").resolved()


def test_yaml_s_no_and_home(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("mixed_precision: no\nprior_generation_precision: no\noutput_dir: ~/runs\n")
    config = read(f"--config={path}")
    assert (config.mixed_precision, config.prior_generation_precision) == ("no", "no")
    assert config.output_dir == Path.home() / "runs"
    assert read("--pretrained_model_name_or_path=~/x").pretrained_model_name_or_path == str(
        Path.home() / "x"
    )
    assert read("--output_dir=~nobody_here/x").output_dir == Path("~nobody_here/x")


@pytest.mark.parametrize("flag", ["noise_offset", "learning_rate", "max_grad_norm"])
def test_numbers_are_finite(flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        read(f"--{flag}=inf")


def test_a_base_is_the_same_however_its_path_is_written(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = read(f"--pretrained_model_name_or_path={tiny}").resolved()
    monkeypatch.chdir(tiny.parent)
    for written in (f"{tiny}/", tiny.name, f"./{tiny.name}"):
        assert read(f"--pretrained_model_name_or_path={written}").difference(saved) is None
    elsewhere = read(f"--pretrained_model_name_or_path={tiny.parent}")
    assert elsewhere.difference(saved) == "pretrained_model_name_or_path"


def test_images_held_out_have_their_own_masks_and_columns() -> None:
    folder = read("--mask_dir=masks", "--caption_column=cap").of_folder(Path("other"))
    assert (folder.source.folder, folder.mask_dir) == (Path("other"), None)
    assert folder.caption_column == "cap"  # of a folder like the first
    rows = DreamBoothConfig(
        pretrained_model_name_or_path="base", instance_prompt="a dog", dataset_name="x",
        image_column="img", mask_column="m",
    )  # fmt: skip
    folder = rows.of_folder(Path("other"))
    assert (folder.dataset_name, folder.image_column, folder.mask_column) == (None, None, None)


def test_the_help_tells_type_range_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["dreambooth", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    for told in (
        "--instance_prompt TEXT prompt naming",
        "--cache_dir PATH keep encoded",
        "--crop {center,random,none} cut",
        "--random_flip [BOOL] also train",
        "--num_crops INT random crops or tints of each image, encoded once and kept (at least",
        "--caption_dropout_rate FLOAT share of times",
        "(at least 0, at most 1) [0.0]",
        "--num_vectors INT vectors of the new word (at least 1, at most 16) [1]",
        "--resolution INT side of the square images in pixels (at least 8) [the base's own]",
        "--rank INT",
        "caption of images that bring none [required]",
    ):
        assert told in words
