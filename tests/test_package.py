"""The wheel: what it holds, and that training, generating and the page work from another folder."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from orthodiff.studio.serve import decoder_note

ROOT = Path(__file__).parent.parent
HEAVY_IMPORTS = (
    "accelerate",
    "cv2",
    "gradio",
    "peft",
    "psutil",
    "pydantic",
    "transformers",
    "yaml",
)
PHOTOS = "orthodiff/assets/subjects/dog"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of the files under version control, without a network."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(lambda name: name and (ROOT / name).is_file(), listed):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=tree, check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the unpacked wheel, as site-packages would."""
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}


def run(code: str, *, installed: Path, folder: Path) -> str:
    """What a fresh Python in `folder` prints, which sees the unpacked wheel and no checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment(installed), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_the_package_and_nothing_else(wheel):
    """No `training`, `studio` or `tests` lands in a user's environment; the pocket model does."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"orthodiff", "orthodiff-0.1.0.dist-info"}
    expected = {
        "orthodiff/py.typed",
        "orthodiff/training/loop.py",
        "orthodiff/training/tasks/dreambooth.py",
        "orthodiff/studio/serve.py",
        "orthodiff/assets/pocket/model_index.json",
        "orthodiff/assets/pocket/unet/diffusion_pytorch_model.safetensors",
        "orthodiff/assets/pocket-canny/hint_encoder.safetensors",
        f"{PHOTOS}/00.png",
    }
    assert expected <= names
    sources = {
        *(ROOT / "orthodiff").rglob("*.py"),
        *(ROOT / "training").rglob("*.py"),
        *(ROOT / "studio").rglob("*.py"),
    }
    shims = {ROOT / "orthodiff/training/__init__.py", ROOT / "orthodiff/studio/__init__.py"}
    missing = [
        path
        for path in sources - shims
        if str(path.relative_to(ROOT)) not in names
        and f"orthodiff/{path.relative_to(ROOT)}" not in names
    ]
    assert not missing
    parts = [path for path in (ROOT / "studio").rglob("*") if path.suffix in (".css", ".js")]
    assert parts
    assert {f"orthodiff/{path.relative_to(ROOT)}" for path in parts} <= names
    strangers = [name for name in names if "/pictures/" in name or "__pycache__" in name]
    assert not strangers


def test_wheel_declares_command_and_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read("orthodiff-0.1.0.dist-info/entry_points.txt").decode()
        metadata = archive.read("orthodiff-0.1.0.dist-info/METADATA").decode()
    assert "orthodiff = orthodiff.cli.main:run" in entry_points
    for extra in ("train", "studio", "all"):
        assert f"Provides-Extra: {extra}\n" in metadata
    assert 'Requires-Dist: gradio<7,>=6.31; extra == "studio"' in metadata


def test_library_needs_torch_safetensors_and_diffusers_alone(installed, tmp_path):
    """`import orthodiff`, attaching, saving and merging import nothing that they do not use."""
    run(
        f"""
import sys
for name in {HEAVY_IMPORTS!r}:
    sys.modules[name] = None  # an import of it fails
import torch
import orthodiff
model = torch.nn.Sequential(torch.nn.Linear(8, 8))
adapter = orthodiff.attach(model, orthodiff.HRA(rank=2), targets=["0"])
adapter.merge()
adapter.save("adapter")
""",
        installed=installed,
        folder=tmp_path,
    )
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.heavy
def test_installed_package_trains_and_makes_an_image(installed, tmp_path):
    """From another folder; `pocket` is the model inside the package."""
    printed = run(
        f"""
import orthodiff, orthodiff.training.loop
from orthodiff.cli.main import main
print(orthodiff.__file__, orthodiff.training.loop.__file__)
assert main(["train", "dreambooth", "--pretrained_model_name_or_path", "pocket",
    "--instance_data_dir", {str(installed / PHOTOS)!r}, "--instance_prompt", "a photo of sks dog",
    "--max_train_steps", "1", "--train_batch_size", "1", "--output_dir", "run"]) == 0
assert main(["generate", "--pretrained_model_name_or_path", "pocket", "--adapter", "run",
    "--prompt", "a photo of sks dog", "--num_inference_steps", "2", "--output_dir", "images"]) == 0
""",
        installed=installed,
        folder=tmp_path,
    )
    library, loop = printed.splitlines()[0].split()
    assert Path(library).is_relative_to(installed)
    assert Path(loop).is_relative_to(installed)
    assert list((tmp_path / "images").glob("*.png"))


@pytest.mark.heavy
def test_installed_studio_answers(installed, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "orthodiff", "studio", "--port", str(port)],
        cwd=tmp_path, env=environment(installed), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert "orthodiff studio" in answer(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        server.communicate(timeout=60)


@pytest.mark.parametrize(("version", "told"), [("12.3.0", True), ("13.0.0", False)])
def test_studio_tells_of_decoders_with_known_holes(version, told):
    """pip alone installs Pillow 12, because gradio asks for it."""
    note = decoder_note(version)
    assert bool(note) is told
    assert not told or (version in note and "pip install --upgrade" in note)


def answer(address: str, server: subprocess.Popen) -> str:
    """The page, once the server answers."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=30) as page:
                return page.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(server.stdout.read().decode())
