"""The models that come with orthodiff are found by name, where no other model has that name."""

from pathlib import Path

import pytest

from orthodiff.io.assets import assets, shipped


@pytest.mark.parametrize("name", ["pocket", "assets/pocket", "pocket-canny", "pocket-segmenter"])
def test_names_lead_to_our_folders(name, tmp_path, monkeypatch):
    """Also where a folder of that name lies that holds no model, as in the checkout."""
    monkeypatch.chdir(tmp_path)
    assert shipped(name) == assets() / Path(name).name
    Path(name).mkdir(parents=True)
    assert shipped(name) == assets() / Path(name).name


@pytest.mark.parametrize("file", ["model_index.json", "adapter_config.json"])
def test_a_model_that_lies_here_comes_first(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pocket").mkdir()
    Path("pocket", file).touch()
    assert shipped("pocket") == Path("pocket")


@pytest.mark.parametrize("name", ["runs/pocket", "/pocket", "pockets", "owner/pocket", "../pocket"])
def test_other_paths_stay_what_they_are(name):
    assert shipped(name) == Path(name)
