"""The repository on the hub that a run ends in."""

from __future__ import annotations

from pathlib import Path

from orthodiff.errors import UserError, first_line

from ..options import HubOptions
from .model_card import CARD

UPLOADED = [
    *("adapter_*", "hint_encoder.safetensors", "control.json", "tokens*", "text_encoder*/*"),
    *("config.yaml", CARD, "samples/*"),
]
"""What is learned, its recipe and what it makes: nothing of the images it was learned from."""


def open_repository(options: HubOptions, output_dir: Path) -> str | None:
    """The id of the repository to upload to, made if need be; None unless asked for.

    Raises:
        UserError: the hub cannot be reached, or does not let this token write there.
    """
    if not options.push_to_hub:
        return None
    from huggingface_hub import create_repo

    name = options.hub_model_id or output_dir.name
    try:
        return create_repo(name, exist_ok=True, token=_token(options)).repo_id
    except Exception as error:  # of the hub, of its http library, of the system
        raise UserError(
            f"The repository `{name}` cannot be made on the hub ({first_line(error)}). Log in with "
            "`hf auth login`, or leave --push_to_hub out."
        ) from error


def upload_run(options: HubOptions, folder: Path, repository: str) -> None:
    """Upload a finished run's `folder`, its checkpoints left out."""
    from huggingface_hub import upload_folder

    upload_folder(
        repo_id=repository,
        folder_path=folder,
        token=_token(options),
        commit_message="End of training",
        allow_patterns=UPLOADED,
    )


def _token(options: HubOptions) -> str | None:
    return options.hub_token.get_secret_value() if options.hub_token else None
