"""The command line of diffusers' `train_dreambooth_lora.py`, with only the script's name replaced.

Its flags are listed here as its parser names them, so that none is forgotten.
"""

from pathlib import Path

import pytest

from orthodiff.errors import UserError
from orthodiff.models import load_base
from orthodiff.training.cli.main import main
from orthodiff.training.events.log import read_events
from orthodiff.training.options import ModelOptions
from orthodiff.training.options.config import parse_config
from orthodiff.training.tasks.dreambooth import DreamBoothConfig
from orthodiff.training.tasks.tokenizers import set_tokenizers
from tests.runs import ROOT, make_images, start, weights
from tests.test_config import read

POCKET = ROOT / "assets" / "pocket"
SWITCHES = [
    "with_prior_preservation",
    "center_crop",
    "train_text_encoder",
    "gradient_checkpointing",
    "scale_lr",
    "use_8bit_adam",
    "push_to_hub",
    "allow_tf32",
    "enable_xformers_memory_efficient_attention",
    "pre_compute_text_embeddings",
    "text_encoder_use_attention_mask",
]
VALUES = [
    "pretrained_model_name_or_path",
    "revision",
    "variant",
    "tokenizer_name",
    "instance_data_dir",
    "class_data_dir",
    "instance_prompt",
    "class_prompt",
    "validation_prompt",
    "num_validation_images",
    "validation_epochs",
    "prior_loss_weight",
    "num_class_images",
    "output_dir",
    "seed",
    "resolution",
    "train_batch_size",
    "sample_batch_size",
    "num_train_epochs",
    "max_train_steps",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "resume_from_checkpoint",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler",
    "lr_warmup_steps",
    "lr_num_cycles",
    "lr_power",
    "dataloader_num_workers",
    "adam_beta1",
    "adam_beta2",
    "adam_weight_decay",
    "adam_epsilon",
    "max_grad_norm",
    "hub_token",
    "hub_model_id",
    "logging_dir",
    "report_to",
    "mixed_precision",
    "prior_generation_precision",
    "local_rank",
    "tokenizer_max_length",
    "validation_images",
    "class_labels_conditioning",
    "rank",
    "lora_dropout",
    "image_interpolation_mode",
]


def command(folder: Path, **flags: object) -> list[str]:
    """A command line as one would write it for diffusers' script; True is a switch."""
    default = {
        "pretrained_model_name_or_path": POCKET,
        "instance_data_dir": make_images(folder / "pictures"),
        "instance_prompt": "a photo of sks dog",
        "output_dir": folder / "run",
        "resolution": 64,
        "train_batch_size": 2,
        "max_train_steps": 2,
        "learning_rate": 1e-4,
        "report_to": "none",
    }
    given = {**default, **flags}.items()
    return [w for name, v in given for w in ([f"--{name}"] if v is True else [f"--{name}", str(v)])]


def test_a_full_command_line_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("tensorboard")
    classes = make_images(tmp_path / "class", count=1)
    flags = {
        "tokenizer_name": POCKET / "tokenizer",
        "class_data_dir": classes,
        "class_prompt": "a photo of a dog",
        "with_prior_preservation": True,
        "prior_loss_weight": 0.5,
        "num_class_images": 2,
        "sample_batch_size": 1,
        "prior_generation_precision": "bf16",
        "validation_prompt": "a sks dog in the snow",
        "num_validation_images": 1,
        "validation_epochs": 1,
        "seed": 0,
        "center_crop": True,
        "image_interpolation_mode": "bilinear",
        "train_text_encoder": True,
        "text_encoder_use_attention_mask": True,
        "tokenizer_max_length": 16,
        "num_train_epochs": 1,
        "checkpointing_steps": 1,
        "checkpoints_total_limit": 2,
        "resume_from_checkpoint": "latest",
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": True,
        "scale_lr": True,
        "lr_scheduler": "polynomial",
        "lr_warmup_steps": 1,
        "lr_num_cycles": 1,
        "lr_power": 2.0,
        "dataloader_num_workers": 2,
        "use_8bit_adam": True,
        "adam_beta1": 0.9,
        "adam_beta2": 0.99,
        "adam_weight_decay": 1e-2,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "logging_dir": "logs",
        "allow_tf32": True,
        "report_to": "tensorboard",
        "mixed_precision": "no",
        "local_rank": -1,
        "rank": 4,
    }
    assert main(command(tmp_path, cache_dir=tmp_path / "cache", **flags)) == 0
    out = tmp_path / "run"
    events = read_events(out / "events.jsonl")
    assert [e["step"] for e in events if e["event"] == "Sample"] == [0, 1, 2]
    assert [p.name for p in sorted(out.glob("checkpoint-*"))] == ["checkpoint-1", "checkpoint-2"]
    assert (out / "text_encoder" / "adapter_config.json").is_file()
    assert len(list(classes.iterdir())) == 2
    assert any((out / "logs").rglob("events.out.tfevents*"))
    assert "note: `dataloader_num_workers` has no effect" in capfd.readouterr().err


def test_every_flag_is_known() -> None:
    known = {*DreamBoothConfig.model_fields, "rank", "lora_dropout"}
    assert not {*SWITCHES, *VALUES} - known


@pytest.mark.slow
def test_the_task_s_name_may_be_left_out_also_under_accelerate(tmp_path: Path) -> None:
    words = command(tmp_path, method="lora", lora_dropout=0.5, seed=3, num_processes_check=None)
    words = words[: words.index("--num_processes_check")]
    options = ["--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--cpu"]
    launch = [*options, "--dynamo_backend=no", "-m", "training", *words]
    process = start(launch, module="accelerate.commands.launch")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    again = [w if w != str(tmp_path / "run") else str(tmp_path / "again") for w in words]
    assert main(["dreambooth", *again]) == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "again")


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        (["--num_train_epochs=3"], 3 * 4),
        (["--num_train_epochs=3", "--gradient_accumulation_steps=2"], 3 * 2),
        (["--num_train_epochs=3", "--max_train_steps=5"], 5),
        ([], DreamBoothConfig.model_fields["max_train_steps"].default),
    ],
)
def test_epochs_are_counted_as_diffusers_counts(flags: list[str], steps: int) -> None:
    config = read("--train_batch_size=3", *flags)
    assert config.counted(examples=11, processes=1).max_train_steps == steps


def test_validation_epochs_become_steps() -> None:
    config = read("--train_batch_size=2", "--validation_epochs=5")
    assert config.counted(examples=10, processes=1).validation_steps == 25
    assert config.counted(examples=10, processes=2).validation_steps == 15


@pytest.mark.parametrize(
    ("saved", "flags", "name", "value"),
    [
        (["--use_8bit_adam"], [], "optimizer", "adamw8bit"),
        (["--use_8bit_adam"], ["--optimizer=adamw"], "optimizer", "adamw"),
        (["--use_8bit_adam"], ["--use_8bit_adam=false"], "optimizer", "adamw"),
        (["--optimizer=prodigy"], ["--use_8bit_adam=false"], "optimizer", "prodigy"),
        (["--optimizer=prodigy"], ["--use_8bit_adam"], "optimizer", "adamw8bit"),
        (["--optimizer=adamw8bit"], [], "optimizer", "adamw8bit"),
        (
            ["--enable_xformers_memory_efficient_attention"],
            ["--attention=sdpa"],
            "attention",
            "sdpa",
        ),
        (
            ["--attention=xformers"],
            ["--enable_xformers_memory_efficient_attention=false"],
            "attention",
            "sdpa",
        ),
        (["--center_crop"], ["--crop=random"], "crop", "random"),
        (["--crop=none"], ["--center_crop"], "crop", "center"),
    ],
)
def test_flags_win_over_a_saved_run_by_either_name(
    tmp_path: Path, saved: list[str], flags: list[str], name: str, value: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(read(*saved).to_yaml())
    again = parse_config([f"--config={path}", *flags], DreamBoothConfig, prog="test")
    assert getattr(again, name) == value
    path.write_text(again.to_yaml())
    assert parse_config([f"--config={path}"], DreamBoothConfig, prog="test") == again


def test_older_saved_runs_hold_aliases_that_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "use_8bit_adam: false\noptimizer: adamw8bit\nattention: xformers\n"
        "enable_xformers_memory_efficient_attention: true\ncrop: null\ncenter_crop: true\n"
    )
    config = read(f"--config={path}")
    assert (config.optimizer, config.attention, config.cut) == ("adamw8bit", "xformers", "center")
    path.write_text("use_8bit_adam: true\noptimizer: prodigy\n")
    with pytest.raises(UserError, match="contradict each other"):
        read(f"--config={path}", "--optimizer=adamw")


def test_the_hub_s_token_is_never_written(tmp_path: Path) -> None:
    config = read("--push_to_hub", "--hub_token=hf_secret", "--hub_model_id=me/dog")
    assert "hf_secret" not in config.to_yaml() + repr(config)
    assert config.hub_token.get_secret_value() == "hf_secret"
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    again = parse_config([f"--config={path}"], DreamBoothConfig, prog="test")
    assert again.to_yaml() == config.to_yaml()


def test_reading_prompts_another_way_changes_embeddings_and_their_name(tiny: Path) -> None:
    plain, other = load_base(str(tiny)), load_base(str(tiny))
    options = {"pretrained_model_name_or_path": "x", "tokenizer_max_length": 8}
    set_tokenizers(ModelOptions(**options, text_encoder_use_attention_mask=True), other)
    assert plain.embed("a dog").hidden.shape[1] == 32
    assert other.embed("a dog").hidden.shape[1] == 8
    assert plain.fingerprint("text_encoder") != other.fingerprint("text_encoder")
    with pytest.raises(UserError, match="reads at most 32 tokens"):
        set_tokenizers(
            ModelOptions(pretrained_model_name_or_path="x", tokenizer_max_length=99), other
        )
    with pytest.raises(UserError, match="holds no CLIP tokenizer"):
        set_tokenizers(ModelOptions(pretrained_model_name_or_path="x", tokenizer_name="/no"), other)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--validation_images", "a.png", "b.png"], ["start from an image"]),
        (["--class_labels_conditioning=timesteps"], ["class labels"]),
        (["--train_text_encoder", "--pre_compute_text_embeddings"], ["contradict"]),
        (["--hub_model_id=me/dog"], ["--push_to_hub"]),
        (["--image_interpolation_mode=lanczoz"], ["lanczos"]),
        (["--lora_dropout=0.1"], ["`lora_dropout`", "hra"]),
        (["--method=lora", "--lora_dropout=1.5"], ["from 0 to below 1"]),
        (["--center_corp"], ["--center_crop"]),
        (["--use_8bit_adam", "--optimizer=adamw"], ["use_8bit_adam", "adamw", "contradict"]),
        (["--use_8bit_adam=false", "--optimizer=adamw8bit"], ["use_8bit_adam", "contradict"]),
        (["--use_8bit_adam=maybe"], ["`use_8bit_adam` is 'maybe'"]),
        (["--center_crop", "--crop=random"], ["center_crop", "random", "contradict"]),
    ],
)
def test_flags_without_meaning_here_are_refused(flags: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read(*flags)
    for word in words:
        assert word in str(caught.value)


def test_an_unreachable_hub_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(command(tmp_path, push_to_hub=True)) == 2
    assert "cannot be made on the hub" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
