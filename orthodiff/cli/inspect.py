"""`orthodiff inspect`: what an adapter folder or an exported file holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orthodiff.cli.flags import read_options
from orthodiff.components.registry import describe


class InspectOptions(BaseModel):
    """Show what an adapter folder or an exported file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Path = Field(description="adapter folder, or a .safetensors file")


def inspect_command(arguments: Sequence[str]) -> None:
    """Print the adapter's configuration and recipe, and its other components, as JSON.

    Raises:
        UserError: the folder is not an adapter that can be read.
    """
    options = read_options(InspectOptions, arguments, prog="orthodiff inspect")
    print(json.dumps(describe(options.adapter), indent=2, ensure_ascii=False))
