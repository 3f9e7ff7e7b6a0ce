"""The page of an uploaded run: what it is, how it was made, and how to use it."""

from __future__ import annotations

from pathlib import Path

from orthodiff.components.registry import components_in

from ..checkpoints.recipe import TrainingRecipe
from ..events.history import History, read_history

CARD = "README.md"
PAGE = """# {name}

{method} for {base}, made with orthodiff in {steps} steps.

{images}

## Use

```
python -m orthodiff generate --pretrained_model_name_or_path {base} \\
    --adapter FOLDER --prompt "{prompt}"
```

`python -m orthodiff export` turns it into a file that other programs load.

## Recipe

{recipe}

The whole of it is in `config.yaml`.
"""


def write_card(
    folder: Path, repository: str, *, base: str, method: str, recipe: TrainingRecipe, steps: int
) -> None:
    """Write `README.md` into the finished run's `folder`, with what the hub sorts pages by."""
    from huggingface_hub import ModelCard, ModelCardData

    history = read_history(folder)
    metadata = recipe.metadata(steps=steps, seconds=history.seconds or 0.0)
    is_local = Path(base).exists()
    card_data = ModelCardData(
        base_model=None if is_local else base,
        pipeline_tag="text-to-image",
        tags=["orthodiff", "text-to-image", method, *components_in(folder)],
        instance_prompt=metadata.get("instance_prompt"),
    )
    page = PAGE.format(
        name=repository.rpartition("/")[2],
        method=method.upper(),
        base=Path(base).name if is_local else base,
        steps=steps,
        images=_images(history),
        prompt=metadata.get("instance_prompt") or "...",
        recipe="\n".join(f"- {name}: {value}" for name, value in metadata.items() if value),
    )
    ModelCard(f"---\n{card_data}\n---\n\n{page}").save(folder / CARD)


def _images(history: History) -> str:
    """The newest validation images under their prompts."""
    if not history.samples:
        return "No validation images were made."
    newest = history.samples[-1]
    pairs = zip(newest["paths"], newest["prompts"], strict=True)
    return "\n\n".join(f"![{path}]({path})\n*{prompt}*" for path, prompt in pairs)
