"""What the system refuses is told in a sentence, before work begins where that can be known."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orthodiff.cli import main as cli
from orthodiff.errors import explain_os_error

ROOT = Path(__file__).parent.parent
LONG = "x" * 300


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("mine")
    return path


@pytest.mark.parametrize("command", ["export", "merge"])
@pytest.mark.parametrize(
    ("out", "said"),
    [("file/out.safetensors", "a file, not a folder"), (f"{LONG}.safetensors", "name is too long")],
)
def test_outputs_are_tried_before_work_begins(
    command: str, out: str, said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(file.parent.rglob("*"))
    words = ["--adapter", "nowhere", "--output", str(file.parent / out)]
    assert cli.main([command, *words]) == 2
    assert said in capsys.readouterr().err
    assert sorted(file.parent.rglob("*")) == before


@pytest.mark.parametrize("command", ["evaluate", "evaluate-control", "generate"])
@pytest.mark.parametrize("place", ["file/out", LONG])
def test_output_folders_are_tried(
    command: str, place: str, file: Path, tiny: Path, tmp_path: Path, capsys
) -> None:
    from orthodiff import HRA, attach
    from orthodiff.control import Canny
    from orthodiff.control import attach as control
    from orthodiff.models import load_base
    from tests.runs import make_images

    base = load_base(str(tiny))
    folder, photos = tmp_path / "adapter", make_images(tmp_path / "photos", 1)
    if command == "evaluate-control":
        control(base.unet, Canny(), factor=base.factor).save(folder)
    else:
        attach(base.unet, HRA(rank=2)).save(folder)
    more = {
        "evaluate": ["--subject", photos, "--instance_prompt", "a photo of sks dog"],
        "evaluate-control": ["--prompt", "a", "--condition_from", next(photos.iterdir())],
        "generate": ["--prompt", "a"],
    }[command]
    words = ["--pretrained_model_name_or_path", tiny, "--adapter", folder, *more]
    words += ["--output_dir", file.parent / place]
    assert cli.main([command, *map(str, words)]) in (1, 2)
    error = capsys.readouterr().err
    assert "error: " in error
    assert "Traceback" not in error
    assert "cannot be " in error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_errors_of_the_system_are_sentences(number: int, monkeypatch, capsys) -> None:
    def fail(words) -> int:
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr(cli, "_function", lambda name: fail)
    assert cli.main(["inspect"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: `/somewhere/file` cannot be used: ")
    assert error.count(". ") == 1


def test_what_is_no_error_of_the_system_is_not_hidden(monkeypatch) -> None:
    def fail(words) -> int:
        raise OSError("a library's own")

    monkeypatch.setattr(cli, "_function", lambda name: fail)
    with pytest.raises(OSError, match="a library's own"):
        cli.main(["inspect"])
    assert explain_os_error(OSError("a library's own")) is None


def test_a_reader_that_leaves_is_no_error(tiny: Path, tmp_path: Path) -> None:
    """As in `orthodiff inspect ... | head -1`, where more was written than a pipe holds."""
    program = (
        "import sys; from orthodiff.cli import main as cli\n"
        "cli._function = lambda name: lambda words: print('x' * 300_000)\n"
        "sys.exit(cli.main(['inspect']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
