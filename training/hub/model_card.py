"""The page of an uploaded run: what it is, how it was made, and how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orthodiff.components.registry import components_in

from ..checkpoints.manager import describe
from ..events.history import History, read_history

if TYPE_CHECKING:
    from ..run.prepare import RunContext

CARD = "README.md"
PAGE = """# {name}

{method} for {base}, made with orthodiff in {steps} steps.

{pictures}

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


def write_card(context: RunContext, repository: str) -> None:
    """Write `README.md` into the finished run's folder, with what the hub sorts pages by."""
    from huggingface_hub import ModelCard, ModelCardData

    config, folder = context.config, context.config.output_dir
    history = read_history(folder)
    recipe = describe(context, steps=config.max_train_steps, seconds=history.seconds or 0.0)
    is_local = Path(context.base.name).exists()
    about = ModelCardData(
        base_model=None if is_local else context.base.name,
        pipeline_tag="text-to-image",
        tags=["orthodiff", "text-to-image", config.method, *components_in(folder)],
        instance_prompt=recipe.get("instance_prompt"),
    )
    page = PAGE.format(
        name=repository.rpartition("/")[2],
        method=config.method.upper(),
        base=Path(context.base.name).name if is_local else context.base.name,
        steps=config.max_train_steps,
        pictures=_pictures(history),
        prompt=recipe.get("instance_prompt") or "...",
        recipe="\n".join(f"- {name}: {value}" for name, value in recipe.items() if value),
    )
    ModelCard(f"---\n{about}\n---\n\n{page}").save(folder / CARD)


def _pictures(history: History) -> str:
    """The newest validation pictures under their prompts."""
    if not history.samples:
        return "No validation pictures were made."
    newest = history.samples[-1]
    pairs = zip(newest["paths"], newest["prompts"], strict=True)
    return "\n\n".join(f"![{path}]({path})\n*{prompt}*" for path, prompt in pairs)
