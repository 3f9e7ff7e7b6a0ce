"""Stage 2: a small CLIP. Its text tower conditions the UNet, the whole is the offline scorer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from pocket.painted.album import TEST_SEED, Album, open_album
from pocket.painted.appearances import ACCESSORIES, COLOURS, PATTERNS
from pocket.painted.glyphs import CLASSES
from pocket.painted.grounds import GROUNDS
from pocket.painted.world import RARE_TOKENS, article, paint
from pocket.trainings.autoencoder import to_pixels
from pocket.trainings.stage import (
    Box,
    Stage,
    bf16,
    device,
)

MAX_TOKENS = 32
WIDTH = 192
GIBBERISH_SHARE = 0.1
WEIGHTS = {"pairs": 1.0, "class": 2.0, "context": 1.0}
"""Of the losses; the others weigh one half."""


Prompts = dict[str, dict[str, str]]


def prompts() -> Prompts:
    """For each attribute of a card, value -> the prompt that names it and nothing else."""
    return {
        "class": {name: f"a photo of {article(name)} {name}" for name in CLASSES},
        "context": {phrase: f"a photo of something {phrase}" for phrase in GROUNDS},
        "colour": {word: f"a photo of something {word}" for word in COLOURS},
        "pattern": {word: f"a photo of something {word}" for word in PATTERNS},
        "accessory": {phrase: f"a photo of something {phrase}" for phrase in ACCESSORIES},
    }


def build_tokenizer(named: Prompts | None = None, *more: str) -> CLIPTokenizer:
    """Byte-pair tokens in which every word of the world is one token; any other word is spelled.

    Args:
        named: the prompts of the world, by default of the painted one.
        more: other texts of the world.
    """
    texts = [text for values in (named or prompts()).values() for text in values.values()]
    texts += ["a picture of an", *RARE_TOKENS, *more]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=5000, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator([text.lower() for text in texts], trainer)
    model = bpe.model.__getstate__()
    return _with_every_letter(model)


def _with_every_letter(model_json: bytes) -> CLIPTokenizer:
    model = json.loads(model_json)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys(chain(letters, (f"{c}</w>" for c in letters), model["vocab"]))
    tokens |= dict.fromkeys(["<|startoftext|>", "<|endoftext|>"])
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def build(tokenizer: CLIPTokenizer, *, side: int = 64, patch: int = 8) -> CLIPModel:
    """A CLIP that sees images of `side` pixels."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH,
        num_hidden_layers=3, num_attention_heads=6, max_position_embeddings=MAX_TOKENS,
        pad_token_id=tokenizer.pad_token_id, **ends,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        image_size=side, patch_size=patch, hidden_size=WIDTH, intermediate_size=3 * WIDTH,
        num_hidden_layers=5, num_attention_heads=6,
    )  # fmt: skip
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str], *, full: bool = False) -> dict[str, Tensor]:
    padding = "max_length" if full else True
    batch = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    return {"input_ids": batch["input_ids"]}


def embed_images(clip: CLIPModel, pixels: Tensor) -> Tensor:
    """Unit rows `(n, 128)`."""
    pooled = clip.vision_model(pixel_values=pixels).pooler_output
    return F.normalize(clip.visual_projection(pooled).float(), dim=-1)


def embed_texts(clip: CLIPModel, batch: dict[str, Tensor]) -> Tensor:
    """Unit rows `(n, 128)`."""
    pooled = clip.text_model(**batch).pooler_output
    return F.normalize(clip.text_projection(pooled).float(), dim=-1)


def with_gibberish(caption: str, rng: np.random.Generator) -> str:
    """Now and then slip a made-up word in, so that unknown words come to mean nothing much."""
    if rng.random() >= GIBBERISH_SHARE:
        return caption
    letters = "".join(chr(c) for c in rng.integers(97, 123, rng.integers(2, 6)))
    words = caption.split(" ")
    spot = int(rng.integers(len(words) + 1))
    return " ".join([*words[:spot], letters, *words[spot:]])


class PromptTargets:
    """The fixed prompts of all attributes, and each card's place among them."""

    def __init__(self, tokenizer: CLIPTokenizer, named: Prompts | None = None) -> None:
        self.tokenizer, self.prompts = tokenizer, named or prompts()
        texts = [text for values in self.prompts.values() for text in values.values()]
        self.batch = tokens(tokenizer, texts)
        self.places = {
            name: {value: k for k, value in enumerate(values)}
            for name, values in self.prompts.items()
        }

    def split(self, embedded: Tensor) -> dict[str, Tensor]:
        sizes = [len(values) for values in self.prompts.values()]
        return dict(zip(self.prompts, embedded.split(sizes), strict=True))

    def labels(self, cards: list[dict], name: str) -> Tensor:
        """Index of each card's value; -100 (ignored) where it has none."""
        places = self.places[name]
        return torch.tensor([places.get(card[name], -100) for card in cards])


def contrast(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross entropy over a batch of pairs (2103.00020, figure 3)."""
    logits = scale * images @ texts.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(
    album: Album,
    folder: Path,
    *,
    minutes: float,
    batch: int = 96,
    targets: PromptTargets | None = None,
    patch: int = 8,
    fresh: Callable[[], tuple[np.ndarray, list[dict]]] | None = None,
) -> CLIPModel:
    """Train on an album; saves `folder/{scorer,text_encoder,tokenizer}`, prints accuracies.

    By default the prompts are the painted world's, and so are the `fresh` images and cards.
    """
    on = device()
    torch.manual_seed(0)
    targets = targets or PromptTargets(build_tokenizer())
    tokenizer = targets.tokenizer
    clip = build(tokenizer, side=album.images.shape[1], patch=patch).to(on)
    stage = Stage(folder / "clip-state", clip, Box(minutes, 1.5e-3, weight_decay=0.05))

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((5, step))
        rows = np.sort(rng.integers(len(album), size=batch))
        cards = [album.cards[row] for row in rows]
        captions = [with_gibberish(str(card["caption"]), rng) for card in cards]
        with bf16(on):
            images = embed_images(clip, to_pixels(album.images[rows]).to(on))
            texts = embed_texts(clip, {k: v.to(on) for k, v in tokens(tokenizer, captions).items()})
            named = embed_texts(clip, {k: v.to(on) for k, v in targets.batch.items()})
        scale = clip.logit_scale.clamp(max=4.6).exp()
        losses = {"pairs": contrast(images, texts, scale)}
        for name, directions in targets.split(named).items():
            labels = targets.labels(cards, name).to(on)
            losses[name] = F.cross_entropy(scale * images @ directions.T, labels)
        total = sum(WEIGHTS.get(name, 0.5) * value for name, value in losses.items())
        return {"loss": total, **losses}

    averaged = stage.run(loss).to("cpu")
    save(averaged, tokenizer, folder)
    scores = accuracy(averaged, targets, *(fresh or _fresh_paintings)())
    print(f"clip: accuracy on fresh images {scores}", flush=True)
    return averaged


def _fresh_paintings() -> tuple[np.ndarray, list[dict]]:
    fresh = [paint(TEST_SEED, k) for k in range(1000)]
    cards = [{"class": p.appearance.name, "context": p.context} for p in fresh]
    return np.stack([p.image for p in fresh]), cards


@torch.no_grad()
def accuracy(
    clip: CLIPModel, targets: PromptTargets, images: np.ndarray, cards: list[dict]
) -> dict[str, float]:
    """Share of images whose nearest prompt is the true one, for each attribute the cards name."""
    seen = torch.cat([embed_images(clip, to_pixels(part)) for part in np.array_split(images, 8)])
    named = targets.split(embed_texts(clip, targets.batch))
    scores = {}
    for name in cards[0]:
        labels = targets.labels(cards, name)
        known = labels >= 0
        guesses = (seen @ named[name].T).argmax(-1)
        scores[name] = round(float((guesses == labels)[known].float().mean()), 4)
    return scores


def save(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """The scorer (whole CLIP) and the text tower in the layout Stable Diffusion has."""
    clip.save_pretrained(folder / "scorer")
    tokenizer.save_pretrained(folder / "scorer")
    side = clip.config.vision_config.image_size
    CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side},
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    ).save_pretrained(folder / "scorer")  # fmt: skip
    tower = CLIPTextModel(clip.config.text_config)
    tower.load_state_dict(clip.text_model.state_dict(), strict=False)
    tower.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket CLIP.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--count", type=int, default=100_000, help="paintings in the album")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    album = open_album(options.folder / "album", count=options.count)
    train(album, options.folder, minutes=options.minutes)


if __name__ == "__main__":
    main()
