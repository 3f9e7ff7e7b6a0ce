"""Publishing what was learned on the hub."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, model_validator
from typing_extensions import Self

from .base import Harmless, Options


class HubOptions(Options):
    push_to_hub: Annotated[bool, Harmless] = Field(
        False, description="upload the adapter and its images to the hub at the end"
    )
    hub_model_id: Annotated[str | None, Harmless] = Field(
        None, description="repository on the hub [the output folder's name]"
    )
    hub_token: Annotated[SecretStr | None, Harmless] = Field(
        None, exclude=True, description="token of the hub, never saved [the one of `hf auth login`]"
    )

    @model_validator(mode="after")
    def _check_hub(self) -> Self:
        for name in ("hub_model_id", "hub_token"):
            if getattr(self, name) is not None and not self.push_to_hub:
                raise ValueError(
                    f"`{name}` is given, but nothing would be uploaded. Add --push_to_hub, or "
                    "leave it out."
                )
        return self
