"""What goes wrong for users of such tools, kind by kind: layers, names, folders and arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.pytorch_utils import Conv1D

import orthodiff
from orthodiff.adapters import Method
from orthodiff.adapters.peft_format.method_format import CONFIG, WEIGHTS
from orthodiff.errors import UserError
from tests.laws import CASES, WIDTH, Stack, adapted, inputs
from tests.test_adapters import over
from tests.test_inject import predict, shake, tiny_unet

SOME: dict[str, Method] = {
    "hra": orthodiff.HRA(rank=4),
    "oft": orthodiff.OFT(block_size=8),
    "boft-scaled": orthodiff.BOFT(block_size=4, factors=2, output_scale=True),
    "lora": orthodiff.LoRA(rank=4, alpha=6),
}
CLOSE = {"rtol": 0.0, "atol": 2e-5}  # float32 through two layers, by two routes


# A layer that does more than multiply by its weight.


class Scaled(nn.Linear):
    """Its forward uses a quarter of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, 0.25 * self.weight, self.bias)


class ScaledConv(nn.Conv2d):
    """The same through the function that torch's own forward calls."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, 0.25 * weight, bias)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: 3 * output)
    return layer


def pre_hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda module, args: (args[0].tanh(),))
    return layer


def replaced(layer: nn.Module) -> nn.Module:
    forward = layer.forward
    layer.forward = lambda x: forward(x) - forward(2 * x)  # type: ignore[method-assign]
    return layer


PECULIAR: dict[str, Callable[[], nn.Module]] = {
    "subclass": lambda: Scaled(WIDTH, 24),
    "hook": lambda: hooked(nn.Linear(WIDTH, 24)),
    "pre-hook": lambda: pre_hooked(nn.Linear(WIDTH, 24)),
    "replaced forward": lambda: replaced(nn.Linear(WIDTH, 24, bias=False)),
    "conv subclass": lambda: ScaledConv(WIDTH, 6, 3, padding=1),
    "conv hook": lambda: hooked(nn.Conv2d(WIDTH, 24, 1)),
}


@pytest.mark.parametrize("rows", [4, 40])
@pytest.mark.parametrize("make", PECULIAR.values(), ids=PECULIAR.keys())
@over(SOME)
def test_a_layers_own_forward_and_hooks_act_on_the_adapted_weight(
    method: Method, make: Callable[[], nn.Module], rows: int
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(make())
    x = torch.randn(rows, WIDTH, *((3, 3) if isinstance(model[0], nn.Conv2d) else ()))
    before = model(x)
    adapter = orthodiff.attach(model, method, targets="0")
    shake(adapter)
    trained = model(x)
    with torch.no_grad():
        evaluated = model(x)
    trained.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())
    assert (trained - before).abs().max() > 0.05
    adapter.merge()
    scale = max(1.0, trained.abs().max().item())
    torch.testing.assert_close(trained / scale, model(x) / scale, **CLOSE)
    torch.testing.assert_close(evaluated / scale, model(x) / scale, **CLOSE)


def test_dropout_of_lora_is_refused_where_a_layer_has_its_own_forward() -> None:
    model = nn.Sequential(Scaled(8, 8))
    orthodiff.attach(model, orthodiff.LoRA(rank=2, lora_dropout=0.1), targets="0")
    with pytest.raises(UserError, match=r"A Scaled layer has a `forward` .* `lora_dropout` cannot"):
        model(torch.randn(2, 8))
    model.eval()(torch.randn(2, 8))  # there is no dropout to lose


# A parent that reads its child's weight.


class Reader(nn.Module):
    """Uses a child's weight without calling the child."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.inner.weight, self.inner.bias)


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@pytest.mark.parametrize(
    ("make", "targets"), [(Reader, "inner"), (transformer, ("linear1", "linear2"))]
)
@over(SOME)
def test_parents_that_read_a_weight_see_the_adapter(
    method: Method, make: Callable[[], nn.Module], targets: Any
) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 5, WIDTH)
    before = model(x)
    adapter = orthodiff.attach(model, method, targets=targets)
    shake(adapter)
    trained = model.train()(x)
    trained.square().sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())
    with torch.no_grad():
        fused = model.eval()(x)  # torch's transformer runs one fused kernel here
    assert (trained - before).abs().max() > 0.05
    torch.testing.assert_close(fused, trained, **CLOSE)
    adapter.merge()
    torch.testing.assert_close(model(x), trained, **CLOSE)


def test_fused_projections_hold_the_adapter_and_are_not_adapted_in_vain() -> None:
    unet = tiny_unet()
    adapter = orthodiff.attach(unet, orthodiff.HRA(rank=4))
    shake(adapter)
    apart = predict(unet)
    unet.fuse_qkv_projections()
    torch.testing.assert_close(predict(unet), apart, **CLOSE)
    other = tiny_unet()
    other.fuse_qkv_projections()
    with pytest.raises(UserError, match=r"to_q is not run: .* `unfuse_qkv_projections\(\)`"):
        orthodiff.attach(other, orthodiff.HRA(rank=4))


# A layer under two names.


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("targets", ["first", "second", "*", ("second", "first")])
def test_a_layer_under_two_names_is_adapted_once_and_found_by_each(
    targets: Any, tmp_path: Path
) -> None:
    model, x = Tied(), inputs(3)
    layer, before = model.first, model(x)
    adapter = orthodiff.attach(model, orthodiff.HRA(rank=4), targets=targets)
    assert list(adapter.layers) == ["first"]
    assert model.first is model.second
    shake(adapter)
    apart = model(x)
    adapter.save(tmp_path / "adapter")
    adapter.merge()
    torch.testing.assert_close(model(x), apart, **CLOSE)
    adapter.detach()
    assert model.first is model.second is layer
    assert torch.equal(model(x), before)
    adapter.attach()
    assert torch.equal(model(x), apart)
    adapter.detach()
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    tensors = load_file(tmp_path / "adapter" / WEIGHTS)
    second = {name.replace("first", "second"): tensor for name, tensor in tensors.items()}
    save_file(second, tmp_path / "adapter" / WEIGHTS)
    config["target_modules"] = ["second"]
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(config))
    orthodiff.load(model, tmp_path / "adapter")
    assert torch.equal(model(x), apart)


# A weight that is no plain parameter, and merges that fail.


def stubborn() -> nn.Module:
    """A layer whose weight cannot be exchanged."""

    class Stubborn(nn.Linear):
        ready = False

        def __setattr__(self, name: str, value: Any) -> None:
            if self.ready and name == "weight":
                raise RuntimeError("the weight is watched")
            super().__setattr__(name, value)

    layer = Stubborn(WIDTH, 24)
    layer.ready = True
    return layer


NOT_MERGED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "spectral norm": (
        lambda: parametrizations.spectral_norm(nn.Linear(WIDTH, 24)).eval(),
        "Layer second: The layer computes its weight",
    ),
    "weight norm": (
        lambda: torch.nn.utils.weight_norm(nn.Linear(WIDTH, 24)),
        "Layer second: The layer computes its weight",
    ),
    "stubborn": (stubborn, "the weight is watched"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(("make", "sentence"), NOT_MERGED.values(), ids=NOT_MERGED.keys())
@over(SOME)
def test_a_merge_that_fails_changes_nothing(
    method: Method, make: Callable[[], nn.Module], sentence: str
) -> None:
    model, x = Stack(), inputs(40)
    model.second = make()
    original = model.first.weight
    adapter = orthodiff.attach(model, method, targets=("first", "second"))
    shake(adapter)
    apart = model(x)
    with pytest.raises((UserError, RuntimeError), match=sentence):
        adapter.merge()
    assert not adapter.merged
    assert model.first.base_layer.weight is original
    assert torch.equal(model(x), apart)
    with torch.no_grad():
        torch.testing.assert_close(model(x), apart, **CLOSE)


@over(SOME)
def test_a_strength_that_cannot_be_merged_is_taken_back(method: Method) -> None:
    model, adapter = adapted(method)
    adapter.merge()
    merged = model(inputs(3))
    parameter = adapter.parameters()[-1]
    intact = parameter.detach().clone()
    layer = adapter.layers["second"]
    layer.adapted_weight, keep = _refusing, layer.adapted_weight  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no room"):
        adapter.strength = 0.5
    layer.adapted_weight = keep  # type: ignore[method-assign]
    assert adapter.strength == 1
    assert torch.equal(parameter, intact)
    adapter.merge()
    torch.testing.assert_close(model(inputs(3)), merged, **CLOSE)


def _refusing() -> Tensor:
    raise RuntimeError("no room")


# PEFT's config: what is known to be right, and nothing else.


def peft_folder(folder: Path, config: peft.PeftConfig, **changes: Any) -> Path:
    """A folder that PEFT saved of a tiny UNet, with entries of its config changed."""
    peft.get_peft_model(tiny_unet(), config).save_pretrained(folder)
    entries = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**entries, **changes}))
    return folder


VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"init_lora_weights": name} for name in ("pissa", "pissa_niter_4", "olora", "corda",
       "loftq", "lora_ga", "mica")},
    "dora": {"use_dora": True}, "bias": {"lora_bias": True}, "ranks": {"rank_pattern": {"to_q": 2}},
    "alphas": {"alpha_pattern": {"to_q": 2}}, "tokens": {"trainable_token_indices": [1]},
    "quantized": {"use_qalora": True}, "aliases": {"alora_invocation_tokens": [1]},
    "kasa": {"kasa_config": {"beta": 1}}, "replicated": {"layer_replication": [[0, 1]]},
    "of tomorrow": {"use_tomorrow": True},
}  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_of_lora_that_compute_something_else_are_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    config = peft.LoraConfig(r=2, target_modules=["to_q"])
    folder = peft_folder(tmp_path, config, **changes)
    with pytest.raises(UserError, match=f"`{next(iter(changes))}`"):
        orthodiff.load(tiny_unet(), folder)


@pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension")
@pytest.mark.filterwarnings("ignore:Setting boft_n_butterfly_factor")
@pytest.mark.parametrize(
    "config",
    [
        peft.HRAConfig(r=2, target_modules=["to_q"]),
        peft.OFTConfig(oft_block_size=8, use_cayley_neumann=False, target_modules=["to_q"]),
        peft.BOFTConfig(boft_block_size=8, target_modules=["to_q"]),
    ],
    ids=lambda config: str(config.peft_type),
)
@pytest.mark.parametrize("changes", [{"use_tomorrow": 1}, {"fan_in_fan_out": True},
                                     {"init_weights": "pissa"}], ids=str)  # fmt: skip
def test_so_are_variants_of_the_other_methods(
    config: peft.PeftConfig, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = peft_folder(tmp_path, config, **changes)
    with pytest.raises(UserError, match=f"`{next(iter(changes))}`"):
        orthodiff.load(tiny_unet(), folder)


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal"])
def test_starts_that_leave_the_base_alone_are_read(start: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=start)
    theirs = peft.get_peft_model(tiny_unet().eval(), config)
    theirs.save_pretrained(tmp_path)
    unet = tiny_unet().eval()
    orthodiff.load(unet, tmp_path)
    torch.testing.assert_close(predict(unet), predict(theirs), **CLOSE)


# Folders that lack layers.


def without_a_layer(folder: Path) -> str:
    """Remove the tensors of one layer, and return its name."""
    tensors = load_file(folder / WEIGHTS)
    gone = next(name for name in sorted(tensors) if "attn2.to_q" in name)
    layer = gone.removeprefix("base_model.model.").partition(".to_q")[0] + ".to_q"
    rest = {name: tensor for name, tensor in tensors.items() if f"{layer}." not in name}
    save_file(rest, folder / WEIGHTS)
    return layer


LACKING: dict[str, Callable[[Path], Any]] = {
    "ours": lambda f: orthodiff.attach(tiny_unet(), orthodiff.HRA(rank=4)).save(f),
    "peft's ends": lambda f: peft_folder(
        f, peft.HRAConfig(r=4, target_modules=["to_q", "attn1.to_k"])
    ),
    "peft's pattern": lambda f: peft_folder(
        f, peft.LoraConfig(r=4, target_modules=r".*attn[12]\.to_q")
    ),
}


@pytest.mark.parametrize("make", LACKING.values(), ids=LACKING.keys())
def test_an_adapter_that_lacks_a_layer_is_refused_by_its_name(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(tmp_path / "adapter")
    complete = len(orthodiff.load(tiny_unet(), tmp_path / "adapter").layers)
    layer = without_a_layer(tmp_path / "adapter")
    unet = tiny_unet()
    with pytest.raises(UserError, match=f"its weights lack: {layer}. It is damaged"):
        orthodiff.load(unet, tmp_path / "adapter")
    assert not any(hasattr(module, "adapter_parameters") for module in unet.modules())
    with pytest.warns(UserWarning, match=f"lack: {layer}. They are left as they are"):
        adapter = orthodiff.load(unet, tmp_path / "adapter", allow_missing=True)
    assert len(adapter.layers) == complete - 1


def test_layers_that_peft_left_out_on_purpose_are_not_missed(tmp_path: Path) -> None:
    config = peft.HRAConfig(r=4, target_modules=["to_q"], exclude_modules=["attn2.to_q"])
    adapter = orthodiff.load(tiny_unet(), peft_folder(tmp_path, config))
    assert all("attn1" in name for name in adapter.layers)


# Weights that are away: on the meta device, or offloaded.


@over(SOME)
def test_what_is_attached_or_loaded_on_the_meta_device_is_not_lost_silently(
    method: Method, tmp_path: Path
) -> None:
    adapted(method)[1].save(tmp_path / "adapter")
    with torch.device("meta"):
        model = nn.Sequential()
        model.first, model.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 24, bias=False)
    with pytest.raises(UserError, match="on the meta device, which keeps no numbers"):
        orthodiff.load(model, tmp_path / "adapter")
    adapter = orthodiff.attach(model, method, targets=("first", "second"))
    assert adapter.num_parameters == adapted(method)[1].num_parameters  # what a plan asks for
    with pytest.raises(UserError, match="attached on the meta device, which keeps no numbers"):
        model.to_empty(device="cpu")


@pytest.mark.parametrize("first", ["attach", "offload"])
@over(SOME)
def test_offloaded_models_are_adapted(method: Method, first: str, tmp_path: Path) -> None:
    plain, adapter = adapted(method)
    expected = plain(inputs(40)).detach()
    adapter.save(tmp_path / "adapter")
    model = Stack()
    if first == "attach":
        loaded = orthodiff.load(model, tmp_path / "adapter")
        cpu_offload(model, torch.device("cpu"))
    else:
        cpu_offload(model, torch.device("cpu"))
        loaded = orthodiff.load(model, tmp_path / "adapter")
    for _ in range(2):
        torch.testing.assert_close(model(inputs(40)).detach(), expected, **CLOSE)
        with torch.no_grad():
            torch.testing.assert_close(model(inputs(40)), expected, **CLOSE)
    with pytest.raises(UserError, match="is offloaded, so that its weight is away"):
        loaded.merge()


def test_an_offloaded_convolution_of_a_large_kernel_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3))
    cpu_offload(model, torch.device("cpu"))
    with pytest.raises(UserError, match=r"Layer 0: The convolution is offloaded, .* larger than"):
        orthodiff.attach(model, orthodiff.HRA(rank=2), targets="0")
    model = nn.Sequential(nn.Conv2d(8, 8, 3))
    orthodiff.attach(model, orthodiff.HRA(rank=2), targets="0")
    cpu_offload(model, torch.device("cpu"))
    with pytest.raises(UserError, match="The convolution is offloaded"):
        model(torch.randn(1, 8, 5, 5))


# Inference mode, and names that depend on wrappers and versions.


@over(SOME)
def test_an_adapter_made_in_inference_mode_can_be_trained_and_combined(
    method: Method, tmp_path: Path
) -> None:
    plain, moved = adapted(method)
    moved.save(tmp_path / "adapter")
    model = Stack()
    with torch.inference_mode():
        adapter = orthodiff.load(model, tmp_path / "adapter")
        adapter.strength = 0.5
        model(inputs(3))
        adapter.merge()
        model(inputs(3))
    rows = inputs(3).requires_grad_()
    model(rows).square().sum().backward()  # through merged weights
    adapter.unmerge()
    model(rows).square().sum().backward()  # at another strength
    adapter.strength = 1.0
    torch.testing.assert_close(model(inputs(3)), plain(inputs(3)), **CLOSE)
    model(rows).square().sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())
    if not isinstance(method, orthodiff.LoRA):
        undoing = adapted(method)[1].inverse()
        with torch.inference_mode():
            back = orthodiff.compose(adapter, undoing)
        back.model(inputs(3)).sum().backward()
        torch.testing.assert_close(back.model(inputs(3)), Stack()(inputs(3)), **CLOSE)
    other = Stack()
    with torch.inference_mode():
        fresh = orthodiff.attach(other, method, targets="*")
    fresh.model(inputs(3)).sum().backward()


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module"])
def test_names_are_saved_without_wrappers(wrapper: str, tmp_path: Path) -> None:
    model = nn.Module()
    model.add_module(wrapper, Stack())
    adapter = orthodiff.attach(model, orthodiff.HRA(rank=4), targets="*")
    shake(adapter)
    adapter.save(tmp_path / "wrapped")
    assert not [name for name in load_file(tmp_path / "wrapped" / WEIGHTS) if wrapper in name]
    assert list(adapter.state_dict()) == ["first.hra_u", "second.hra_u"]
    plain = Stack()
    orthodiff.load(plain, tmp_path / "wrapped")
    expected = getattr(model, wrapper)(inputs(3))
    torch.testing.assert_close(plain(inputs(3)), expected, **CLOSE)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"text_model.{name}",
        lambda name: name.removeprefix("text_model."),
        lambda name: name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."),
    ],
    ids=["compiled", "parallel", "old transformers", "new transformers", "checkpointed"],
)
def test_every_known_name_of_a_layer_is_read(rename: Callable[[str], str], tmp_path: Path) -> None:
    def text_encoder() -> CLIPTextModel:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        return CLIPTextModel(CLIPTextConfig(vocab_size=50, num_attention_heads=4, **sizes)).eval()

    model, tokens = text_encoder(), torch.arange(10)[None]
    adapter = orthodiff.attach(model, orthodiff.HRA(), targets=orthodiff.TEXT_ATTENTION)
    shake(adapter)
    expected = model(tokens).last_hidden_state
    adapter.save(tmp_path / "adapter")
    prefix, tensors = "base_model.model.", load_file(tmp_path / "adapter" / WEIGHTS)
    renamed = {prefix + rename(k.removeprefix(prefix)): v for k, v in tensors.items()}
    save_file(renamed, tmp_path / "adapter" / WEIGHTS)
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    config["target_modules"] = [rename(name) for name in config["target_modules"]]
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(config))
    twin = text_encoder()
    orthodiff.load(twin, tmp_path / "adapter")
    assert torch.equal(twin(tokens).last_hidden_state, expected)
    without = dict(list(renamed.items())[1:])
    save_file(without, tmp_path / "adapter" / WEIGHTS)
    with pytest.raises(UserError, match="its weights lack"):
        orthodiff.load(text_encoder(), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch's tracer does itself
def test_a_compiled_model_is_adapted_and_its_folder_fits_the_plain_one(tmp_path: Path) -> None:
    compiled = torch.compile(Stack(), backend="eager")
    adapter = orthodiff.attach(compiled, orthodiff.HRA(rank=4), targets="*")
    shake(adapter)
    adapter.save(tmp_path / "adapter")
    plain = Stack()
    orthodiff.load(plain, tmp_path / "adapter")
    torch.testing.assert_close(plain(inputs(3)), compiled(inputs(3)), **CLOSE)
    again = torch.compile(Stack(), backend="eager")
    orthodiff.load(again, tmp_path / "adapter")
    torch.testing.assert_close(plain(inputs(3)), again(inputs(3)), **CLOSE)


# Folders of PEFT, old and adjusted.


def test_the_permutations_of_old_butterflies_are_passed_over(tmp_path: Path) -> None:
    adapter = orthodiff.attach(tiny_unet(), CASES["boft-scaled"])
    shake(adapter)
    adapter.save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    old = {n.replace("boft_R", "boft_P"): torch.eye(32) for n in tensors if "boft_R" in n}
    save_file({**tensors, **old}, tmp_path / WEIGHTS)
    loaded = orthodiff.load(tiny_unet(), tmp_path)
    assert all(map(torch.equal, loaded.parameters(), adapter.parameters()))
    save_file({**tensors, **{n.replace("P", "Q"): t for n, t in old.items()}}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="has boft_Q, which fits nothing"):
        orthodiff.load(tiny_unet(), tmp_path)


@pytest.mark.filterwarnings("ignore:Invalid `(oft_block_size|r)`")
@pytest.mark.parametrize("asked", [{"oft_block_size": 5}, {"r": 5, "oft_block_size": 0}], ids=str)
def test_sizes_that_peft_adjusted_are_read_from_the_tensors(
    asked: dict[str, int], tmp_path: Path
) -> None:
    def model(second: int) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 16), nn.Linear(16, second), nn.Linear(second, 2))

    config = peft.OFTConfig(
        **{"r": 0, **asked}, use_cayley_neumann=False, target_modules=["0", "1"], init_weights=False
    )
    theirs = peft.get_peft_model(model(16), config).eval()
    theirs.save_pretrained(tmp_path / "alike")
    ours = model(16)
    orthodiff.load(ours, tmp_path / "alike")
    x = torch.randn(3, 16)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)
    config.target_modules = {"0", "2"}
    peft.get_peft_model(model(15), config).save_pretrained(tmp_path / "unlike")
    with pytest.raises(UserError, match=r"does not divide the width of every layer"):
        orthodiff.load(model(15), tmp_path / "unlike")


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3, 4, 5)], ids=str)
@over(SOME)
def test_tensors_of_an_absurd_shape_are_told_in_a_sentence(
    method: Method, shape: tuple[int, ...], tmp_path: Path
) -> None:
    adapted(method)[1].save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    for name in tensors:
        damaged = {**tensors, name: torch.zeros(shape)}
        save_file(damaged, tmp_path / WEIGHTS)
        with pytest.raises(UserError, match="of shape"):
            orthodiff.load(Stack(), tmp_path)


@pytest.mark.parametrize("channels_last", [False, True])
@over(SOME)
def test_merged_weights_lie_in_memory_as_the_originals_do(
    method: Method, channels_last: bool, tmp_path: Path
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)).to(memory_format=layout)
    model.append(nn.Linear(8, 8))
    strides = [module.weight.stride() for module in model]
    adapter = orthodiff.attach(model, method, targets=("0", "1", "2"))
    shake(adapter)
    adapter.merge()
    adapter.detach(merged=True)
    assert [module.weight.stride() for module in model] == strides
    if not channels_last:
        save_file(model.state_dict(), tmp_path / "model.safetensors")


# Arguments.


def adapter_of(method: Method = SOME["hra"]) -> orthodiff.Adapter:
    return adapted(method)[1]


def set_strength(value: Any) -> None:
    adapter_of().strength = value


ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "a method's name": (lambda: orthodiff.attach(Stack(), "hra"), "`method` is 'hra', but"),
    "a method's class": (lambda: orthodiff.attach(Stack(), orthodiff.HRA), "`method` is <class"),
    "no targets": (lambda: orthodiff.attach(Stack(), SOME["hra"], targets=None), "`targets` is No"),
    "numbers as targets": (
        lambda: orthodiff.attach(Stack(), SOME["hra"], targets=[1]), "`targets` is .1., but"),
    "no layers": (
        lambda: orthodiff.attach(nn.Sequential(nn.ReLU()), SOME["hra"], targets="x"),
        "has no linear or convolution layer at all"),
    "a text as strength": (lambda: set_strength("0.5"), "`strength` is '0.5', but"),
    "no strength": (lambda: set_strength(None), "`strength` is None, but"),
    "infinite strength": (lambda: set_strength(float("inf")), "`strength` is inf, but"),
    "nan between": (
        lambda: orthodiff.interpolate(adapter_of(), adapter_of(), float("nan")), "`t` is nan, but"),
    "text between": (
        lambda: orthodiff.interpolate(adapter_of(), adapter_of(), "half"), "`t` is 'half', but"),
    "no adapter": (lambda: orthodiff.compose(adapter_of(), "subject"), "'subject' is no adapter"),
    "angles of lora": (
        lambda: adapter_of(SOME["lora"]).rotation_angles(), "lora adds to the weights"),
    "a text as a rank": (lambda: orthodiff.HRA(rank="8"), "`rank` is '8', but it must be a whole"),
    "a number as a switch": (lambda: orthodiff.HRA(strict=1), "`strict` is 1, but it must be true"),
    "true as a number": (lambda: orthodiff.OFT(dropout=True), "`dropout` is True, but"),
    "a width of one": (
        lambda: orthodiff.attach(nn.Sequential(nn.Linear(1, 4)), SOME["hra"], targets="0"),
        "the layer is 1 wide, .* Leave it out"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_wrong_arguments_are_told_in_a_sentence(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()


BROKEN: dict[str, Callable[[orthodiff.Adapter, Path], Any]] = {
    "merge": lambda adapter, folder: adapter.merge(),
    "save": lambda adapter, folder: adapter.save(folder / "adapter"),
    "angles": lambda adapter, folder: adapter.rotation_angles(),
    "inverse": lambda adapter, folder: adapter.inverse(),
    "compose": lambda adapter, folder: orthodiff.compose(adapter, adapter_of()),
    "interpolate": lambda adapter, folder: orthodiff.interpolate(
        adapter_of(adapter.method), adapter, 0.5
    ),
}


@pytest.mark.parametrize("call", BROKEN.values(), ids=BROKEN.keys())
@over(SOME)
def test_a_diverged_adapter_is_named_and_nothing_is_written(
    method: Method, call: Callable[[orthodiff.Adapter, Path], Any], tmp_path: Path
) -> None:
    adapter = adapter_of(method)
    with torch.no_grad():
        list(adapter.layers["second"].adapter_parameters().values())[-1].view(-1)[0] = torch.nan
    weight = adapter.model.first.base_layer.weight
    with pytest.raises(UserError, match=r"not finite|cannot be combined|has no angles"):
        call(adapter, tmp_path)
    assert not list(tmp_path.iterdir())
    assert adapter.model.first.base_layer.weight is weight


@over(SOME)
def test_gradients_have_gradients(method: Method) -> None:
    """As gradient penalties ask for, by autograd's own check in float64."""
    layer = nn.Linear(8, 6).double()
    adapter = orthodiff.attach(nn.Sequential(layer), method, targets="0")
    for parameter in adapter.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(adapter.named_parameters(), parameters, strict=True))
        names = {
            name: name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")
            for name in named
        }
        own = {names[name]: value for name, value in named.items()}
        return torch.func.functional_call(adapter.model[0], {n[2:]: v for n, v in own.items()}, x)

    for fixed in (False, True):
        x = torch.randn(3, 8, dtype=torch.float64, requires_grad=not fixed)
        inputs = [x, *adapter.parameters()]
        assert torch.autograd.gradcheck(run, inputs)
        assert torch.autograd.gradgradcheck(run, inputs)


# What callers look up on a plain layer, and GPT-2's linear layer.


@over(SOME)
def test_adapted_layers_answer_as_plain_ones_do(method: Method) -> None:
    model = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.Linear(16, 8))
    plain = [(m.in_channels, m.kernel_size, m.stride, m.padding, m.dilation, m.groups,
              m.padding_mode, m.out_channels) for m in model[:1]]  # fmt: skip
    adapter = orthodiff.attach(model, method, targets=("0", "1"))
    assert plain == [(m.in_channels, m.kernel_size, m.stride, m.padding, m.dilation, m.groups,
                      m.padding_mode, m.out_channels) for m in model[:1]]  # fmt: skip
    assert (model[1].in_features, model[1].out_features) == (16, 8)
    assert model[0].bias is None
    assert model[0].weight.shape == (16, 8, 3, 3)
    with pytest.raises(AttributeError, match="nothing"):
        _ = model[0].nothing
    assert len(adapter.layers) == 2


@over(SOME)
def test_the_linear_layers_of_gpt2_are_adapted(method: Method, tmp_path: Path) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(Conv1D(24, WIDTH), nn.Tanh(), Conv1D(16, 24))

    ours, x = model(), torch.randn(5, WIDTH)
    before = ours(x)
    adapter = orthodiff.attach(ours, method, targets=orthodiff.ALL_LINEAR)
    assert list(adapter.layers) == ["0", "2"]
    shake(adapter)
    apart = ours(x)
    assert (apart - before).abs().max() > 0.1 * before.abs().max()  # GPT-2 starts at std .02
    with torch.no_grad():
        torch.testing.assert_close(ours(x.repeat(9, 1))[:5], apart, **CLOSE)
    adapter.save(tmp_path)
    twin = model()
    orthodiff.load(twin, tmp_path)
    assert torch.equal(twin(x), apart)
    if isinstance(method, orthodiff.LoRA):
        with pytest.warns(UserWarning, match="fan_in_fan_out"):
            theirs = peft.PeftModel.from_pretrained(model(), tmp_path)
        torch.testing.assert_close(theirs(x), apart, **CLOSE)
    adapter.merge()
    assert ours[0].base_layer.weight.shape == (WIDTH, 24)
    torch.testing.assert_close(ours(x), apart, **CLOSE)


def test_a_model_that_carries_pefts_adapter_is_refused_by_name() -> None:
    unet = tiny_unet()
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(UserError, match=r"carries an adapter of PEFT or diffusers, .*to_q"):
        orthodiff.attach(unet, SOME["hra"])
