"""Latents and embeddings are computed once, kept by content, and come back bit for bit."""

from pathlib import Path

import torch

from orthodiff.families import load_base
from tests.runs import make_pictures
from training.dataset import load_examples
from training.encode import Cache, encode


def test_cached_equals_computed(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    examples = load_examples(make_pictures(tmp_path / "pictures"), "sks dog", resolution=32)
    fresh = encode(base, examples, Cache(None))
    first = encode(base, examples, Cache(tmp_path / "cache"))
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 4
    again = encode(base, examples, Cache(tmp_path / "cache"))
    for one in (first, again):
        assert torch.equal(fresh.latents, one.latents)
        assert torch.equal(fresh.conditioning.hidden, one.conditioning.hidden)
    files[0].write_bytes(b"damaged")
    assert torch.equal(fresh.latents, encode(base, examples, Cache(tmp_path / "cache")).latents)


def test_latents_follow_the_posterior(tiny: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny))
    examples = load_examples(make_pictures(tmp_path / "pictures"), "sks dog", resolution=32)
    encoded = encode(base, examples, Cache(None))
    posterior = base.vae.encode(examples[1].pixels()[None]).latent_dist
    noise = torch.randn(1, 4, 8, 8)
    latents, conditioning = encoded.at([1], noise)
    wanted = (posterior.mean + posterior.std * noise) * base.vae.config.scaling_factor
    assert torch.allclose(latents, wanted, atol=1e-5)
    assert conditioning.hidden.shape == (1, 32, 32)
