"""A checkpoint in one file opens, offline, as the same base as its diffusers folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orthodiff.errors import UserError
from orthodiff.export.single import whole_model
from orthodiff.models import load_base
from tests.test_agreement import difference, ours
from tests.tiny import SPECIAL, TINY_VAE, byte_tokenizer, make_tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

UNET = {"sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1}
VAE = {**TINY_VAE, "block_out_channels": (32, 32, 32), "norm_num_groups": 32}


def text(kind: str, width: int, *, act: str, projection: int = 16):
    import transformers

    tokenizer = byte_tokenizer(length=32)
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        max_position_embeddings=32,
        hidden_act=act,
        projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return getattr(transformers, kind)(config)


def make(folder: Path, kind: str) -> Path:
    """A small model of the very layout of Stable Diffusion 1, 2 or XL, saved by diffusers."""
    import diffusers

    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    noise = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
    tokenizer = byte_tokenizer(length=32)
    if kind == "xl":
        second = byte_tokenizer(length=32)
        second.pad_token = "!"
        diffusers.StableDiffusionXLPipeline(
            vae=diffusers.AutoencoderKL(**VAE, scaling_factor=0.13025),
            text_encoder=text("CLIPTextModel", 768, act="quick_gelu"),
            text_encoder_2=text("CLIPTextModelWithProjection", 1280, act="gelu", projection=1280),
            tokenizer=tokenizer,
            tokenizer_2=second,
            unet=diffusers.UNet2DConditionModel(
                **UNET,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2),
                attention_head_dim=(1, 1),
                cross_attention_dim=2048,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=6 * 256 + 1280,
            ),
            scheduler=diffusers.EulerDiscreteScheduler(**noise),
        ).save_pretrained(folder)
        return folder
    is_first = kind == "sd1"
    if not is_first:
        tokenizer.pad_token = "!"
    diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**VAE),
        text_encoder=text(
            "CLIPTextModel", 768 if is_first else 1024, act="quick_gelu" if is_first else "gelu"
        ),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            **UNET,
            **blocks,
            attention_head_dim=8 if is_first else (1, 1),
            cross_attention_dim=768 if is_first else 1024,
            use_linear_projection=not is_first,
        ),
        scheduler=diffusers.PNDMScheduler(**noise, skip_prk_steps=True)
        if is_first
        else diffusers.DDIMScheduler(
            **noise, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def as_file(folder: Path, path: Path, **header: str) -> Path:
    """The folder's model as one file, with its tokenizer beside it."""
    tensors = {name: t.clone() for name, t in whole_model(load_base(str(folder))).items()}
    save_file(tensors, path, metadata={"format": "pt", **header})
    shutil.copytree(folder / "tokenizer", path.parent / "tokenizer", dirs_exist_ok=True)
    return path


@pytest.fixture(scope="module", params=["sd1", "sd2", "xl"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A folder and its single file."""
    place = tmp_path_factory.mktemp(request.param)
    folder = make(place / "folder", request.param)
    return folder, as_file(folder, place / "model.safetensors")


def test_a_single_file_paints_the_same(models: tuple[Path, Path]) -> None:
    folder, path = models
    size = {"width": 32, "height": 32}
    assert difference(ours(folder, **size), ours(path, **size)) == 0
    base = load_base(str(path))
    assert base.recommended.resolution in (512, 768, 1024)
    assert len(base.fingerprint("unet")) == 64


def test_a_whole_openclip_is_read_up_to_its_last_layer_but_one(tmp_path: Path) -> None:
    folder = make(tmp_path / "folder", "sd2")
    path = as_file(folder, tmp_path / "model.safetensors")
    tensors = load_file(path)
    prefix = "cond_stage_model.model."
    block = f"{prefix}transformer.resblocks."
    extra = {
        k.replace(f"{block}1.", f"{block}2."): t + 1
        for k, t in tensors.items()
        if f"{block}1." in k
    }
    save_file({**tensors, **extra, f"{prefix}text_projection": torch.zeros(1024, 16)}, path)
    size = {"width": 32, "height": 32}
    assert difference(ours(folder, **size), ours(path, **size)) == 0


def test_configurations_beside_the_file_win(tmp_path: Path) -> None:
    """The tiny model has norms of 8 groups, which no tensor tells."""
    folder = make_tiny(tmp_path / "folder")
    path = as_file(folder, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"not a whole checkpoint.*32 wide"):
        load_base(str(path))
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    assert difference(ours(folder, width=32, height=32), ours(path, width=32, height=32)) == 0


@pytest.mark.parametrize(
    ("header", "beside", "prediction"),
    [
        ({}, None, "epsilon"),
        ({"modelspec.prediction_type": "v"}, None, "v_prediction"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, None, "v_prediction"),
        ({}, "model: {params: {parameterization: v}}", "v_prediction"),
        ({}, "model: [", "epsilon"),
    ],
)
def test_what_is_predicted_is_told_or_usual(
    tmp_path: Path, header: dict[str, str], beside: str | None, prediction: str
) -> None:
    path = as_file(make(tmp_path / "folder", "sd1"), tmp_path / "model.safetensors", **header)
    if beside:
        path.with_suffix(".yaml").write_text(beside)
    assert load_base(str(path)).scheduler.config.prediction_type == prediction


def test_a_marked_file_ends_without_signal(tmp_path: Path) -> None:
    path = as_file(make(tmp_path / "folder", "sd1"), tmp_path / "model.safetensors")
    marks = {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}
    save_file({**load_file(path), **marks}, path)
    config = load_base(str(path)).scheduler.config
    assert config.prediction_type == "v_prediction"
    assert config.rescale_betas_zero_snr
    assert config.timestep_spacing == "trailing"


def test_without_a_tokenizer_the_sentence_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    path = as_file(make(tmp_path / "folder", "sd1"), tmp_path / "model.safetensors")
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(UserError, match=r"needs CLIP's tokenizer.*vocab\.json.*hf download"):
        load_base(str(path))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    path = as_file(make(tmp_path / "folder", "sd1"), tmp_path / "model.safetensors")
    tokenizer = byte_tokenizer(length=32)
    tokenizer.add_tokens([f"{SPECIAL[0]}{number}" for number in range(3)])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(UserError, match=r"has 517 words, but `model\.safetensors` knows 514"):
        load_base(str(path))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"lora_unet_x.lora_down.weight": (4, 8)}, "it has no UNet"),
        ({"model.diffusion_model.a.attn2.to_k.weight": (8, 1280)}, "refiner"),
        ({"model.diffusion_model.a.attn2.to_k.weight": (8, 768)}, "it has no autoencoder"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, tensors: dict, told: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path)
    with pytest.raises(UserError, match=told):
        load_base(str(path))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        load_base(str(path))
    path.write_bytes(b"short")
    with pytest.raises(UserError, match="not safetensors"):
        load_base(str(path))
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(UserError, match="can run code"):
        load_base(str(tmp_path / "model.ckpt"))


def test_inpainting_files_are_refused(tmp_path: Path) -> None:
    path = as_file(make(tmp_path / "folder", "sd1"), tmp_path / "model.safetensors")
    key = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({**load_file(path), key: torch.zeros(32, 9, 3, 3)}, path)
    with pytest.raises(UserError, match="9 input channels"):
        load_base(str(path))


def test_an_index_beside_the_file_must_be_of_a_family(tmp_path: Path) -> None:
    path = as_file(make(tmp_path / "folder", "sd1"), tmp_path / "model.safetensors")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"_class_name": "Evil"}))
    with pytest.raises(UserError, match="is a Evil, which is not supported"):
        load_base(str(path))
