"""Where images come from, in any of the layouts that `training.data` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import Self

from ..data.readers.hub_dataset import recognises
from ..data.readers.records import Columns, DataRequest
from .base import Harmless, Options

PLACES = ("instance_data_dir", "dataset_name", "dataset_config_name", "mask_dir")
COLUMNS = ("image_column", "caption_column", "conditioning_image_column", "mask_column")


class SourceOptions(Options):
    train_data_dir: Annotated[Path | None, Harmless] = Field(
        None,
        description="folder of images: flat with .txt captions, a kohya tree, an imagefolder with "
        "metadata.jsonl, webdataset tars, or Parquet files",
    )
    dataset_name: Annotated[str | None, Harmless] = Field(
        None, description="dataset instead of a folder: hub id or local path (extra: datasets)"
    )
    dataset_config_name: str | None = Field(None, description="configuration of the dataset")
    streaming: Annotated[bool, Harmless] = Field(
        False, description="read the dataset as it comes, without a copy of it on this computer"
    )
    image_column: str | None = Field(None, description="column of the images [image]")
    caption_column: str | None = Field(
        None, description="column of the captions [text, prompt or caption, if there is one]"
    )
    conditioning_image_column: str | None = Field(
        None, description="column of the control images [conditioning_image, if there is one]"
    )
    mask_column: str | None = Field(None, description="column of the masks [mask, if there is one]")
    mask_dir: Annotated[Path | None, Harmless] = Field(
        None,
        description="folder of masks with the paths or names of their images; white: learn this",
    )
    alpha_mask: bool = Field(False, description="learn only what is opaque in an image")
    subject_mask: bool = Field(
        False, description="find the subject, and learn only that (extra: masks)"
    )
    skip_bad_files: bool = Field(
        False, description="train without the files that cannot be used, instead of refusing"
    )

    def of_folder(self, folder: Path) -> Self:
        """The same for the images of another folder, whose masks are its own.

        Columns are a dataset's: they hold for another one, and not for a folder of images.
        """
        fields = type(self).model_fields
        own = [*PLACES, *(COLUMNS if self.dataset_name and not recognises(folder) else ())]
        gone: dict[str, Any] = {name: None for name in own if name in fields}
        return self.model_copy(update={**gone, "streaming": False, "train_data_dir": folder})

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if self.dataset_config_name and not self.dataset_name:
            raise ValueError(
                "`dataset_config_name` is given, but no dataset. Add --dataset_name, or leave it "
                "out."
            )
        if self.streaming and not self.dataset_name:
            raise ValueError(
                "`streaming` is given, but no dataset. Add --dataset_name, or leave it out: "
                "folders are read in place."
            )
        if self.mask_dir and self.dataset_name:
            raise ValueError(
                "`mask_dir` is given, but datasets have their masks in a column. Name it with "
                "--mask_column, or leave the folder out."
            )
        if self.image_column and not self.dataset_name:
            raise ValueError(
                "`image_column` is given, but folders name their images `file_name`. "
                "Leave it out, or read the folder with --dataset_name."
            )
        return self

    def request(self, folder: Path | None, *, caption: str) -> DataRequest:
        """What readers are asked for; `caption` stands where there is none."""
        return DataRequest(
            folder=folder,
            dataset=self.dataset_name,
            dataset_config=self.dataset_config_name,
            columns=Columns(
                image=self.image_column,
                caption=self.caption_column,
                control_image=self.conditioning_image_column,
                mask=self.mask_column,
            ),
            caption=caption,
            mask_dir=self.mask_dir,
            alpha_mask=self.alpha_mask,
            subject_mask=self.subject_mask,
            streaming=self.streaming,
        )
