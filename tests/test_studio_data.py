"""Sets of images with captions and control images: archives, pairs, and trainings on them."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orthodiff.control import Canny
from orthodiff.errors import UserError
from orthodiff.studio.api.app import make_app
from orthodiff.studio.security.guard import Rules, allowed_hosts
from orthodiff.studio.security.users import Users, token_digest
from orthodiff.studio.services.settings.control import CONTROL_SHARES, RECIPES
from orthodiff.studio.services.uploads import decode
from orthodiff.studio.services.uploads.subjects import PhotoSet, Subjects
from orthodiff.studio.state import Studio
from tests.photos import photo
from tests.runs import ROOT
from tests.test_studio_api import TOKENS, Client, follow, png


@pytest.fixture(scope="module")
def ask(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    place = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        studio = Studio.open(bases=[str(tiny)], data=place / "data", runs=place / "runs")
        users = Users({name: token_digest(token) for name, token in TOKENS.items()})
        rules = Rules(hosts=allowed_hosts("127.0.0.1", []), body=1, upload=8)

        async def build() -> Any:
            return make_app(studio, users=users, rules=rules)

        yield Client(asyncio.run(build()))
        for job in studio.jobs.store.in_status("running"):
            studio.jobs.executors[job.lane].stop(job, hard=True)
        studio.close()


@pytest.fixture
def subjects(tmp_path: Path) -> Subjects:
    return Subjects(tmp_path / "subjects")


def archive(entries: dict[str, bytes | str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in entries.items():
            pack.writestr(name, content)
    return packed.getvalue()


def edges(seed: int) -> bytes:
    packed = io.BytesIO()
    Canny().compute(photo(seed, (80, 64))).save(packed, "PNG")
    return packed.getvalue()


def bring(subjects: Subjects, place: Path, content: bytes, name: str = "set.zip") -> PhotoSet:
    place.write_bytes(content)
    return subjects.add("ann", [(name, place)])


def test_an_archive_brings_captions_and_control_images(subjects: Subjects, tmp_path: Path) -> None:
    photos = bring(
        subjects,
        tmp_path / "upload",
        archive(
            {
                "set/images/b.png": png(seed=1),
                "set/images/a.jpg": png(seed=0),
                "set/images/a.txt": "a red house\n",
                "set/control_images/a.png": edges(0),
                "set/control_images/alone.png": edges(3),
                "__MACOSX/._a.png": b"x",
                "set/readme.md": "hello",
            }
        ),
    )
    assert [(one.name, one.caption, bool(one.control)) for one in photos.photos] == [
        ("b.png", "", False),
        ("a.jpg", "a red house", True),
    ]
    control = photos.controls[1]
    assert control
    assert np.array_equal(np.asarray(Image.open(control).convert("RGB")), _rgb(edges(0)))
    assert "`readme.md` cannot be used" in photos.problems[0]
    assert "`alone.png` has no photo" in photos.problems[1]
    left = subjects.remove_photo("ann", photos.id, photos.photos[1].file)
    assert [one.name for one in left.photos] == ["b.png"]
    assert not control.exists()


def _rgb(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_list_in_the_archive_names_captions_and_control_images(
    subjects: Subjects, tmp_path: Path
) -> None:
    rows = [
        {"file_name": "x.png", "text": "a boat", "conditioning_image": "maps/other.png"},
        "no row",
        {"file_name": 7},
    ]
    entries = {"x.png": png(), "maps/other.png": edges(0)}
    entries["metadata.jsonl"] = "\n".join(map(json.dumps, rows)) + "\n{"
    (only,) = bring(subjects, tmp_path / "upload", archive(entries)).photos
    assert (only.caption, bool(only.control)) == ("a boat", True)


def test_a_later_upload_is_added_beside(subjects: Subjects, tmp_path: Path) -> None:
    first = bring(subjects, tmp_path / "a", archive({"a.png": png(), "maps/a.png": edges(0)}))
    (tmp_path / "b").write_bytes(png(seed=4))
    both = subjects.add("ann", [("b.png", tmp_path / "b")], into=first.id)
    assert [(one.name, bool(one.control)) for one in both.photos] == [
        ("a.png", True),
        ("b.png", False),
    ]
    assert len({name for one in both.photos for name in one.files}) == 3
    assert all((both.folder / name).is_file() for one in both.photos for name in one.files)


def test_two_images_of_a_name_that_a_caption_refers_to(subjects: Subjects, tmp_path: Path) -> None:
    entries = {"1/a.png": png(seed=1), "2/a.png": png(seed=2)}
    assert len(bring(subjects, tmp_path / "upload", archive(entries)).photos) == 2
    with pytest.raises(UserError, match="2 images are called `a`"):
        bring(subjects, tmp_path / "upload", archive({**entries, "a.txt": "which?"}))


def _encrypted() -> bytes:
    content = bytearray(archive({"a.png": png()}))
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(sign) + place] |= 1
    return bytes(content)


def _liar() -> bytes:
    """It says that an entry of 60 MB unpacks to ten bytes."""
    content = bytearray(archive({"a.png": bytes(60 << 20)}))
    for sign, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(sign) + place
        content[start : start + 4] = (10).to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(lambda: archive({"a.png": bytes(60 << 20)}), "too large", id="bomb"),
        pytest.param(_liar, "cannot be", id="an archive that lies"),
        pytest.param(lambda: archive(dict.fromkeys(map(str, range(2001)), "")), "2000", id="many"),
        pytest.param(_encrypted, "encrypted", id="encrypted"),
        pytest.param(lambda: archive({"a.zip": archive({"a.png": png()})}), "format", id="nested"),
        pytest.param(lambda: archive({"a.png": png()})[:-40], "archive", id="cut off"),
        pytest.param(lambda: archive({}), "cannot be used", id="empty"),
    ],
)
def test_archives_that_are_refused(
    subjects: Subjects, tmp_path: Path, content: Any, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        bring(subjects, tmp_path / "upload", content())
    assert list((tmp_path / "subjects" / "ann").iterdir()) == []


def test_names_that_lead_elsewhere_lead_nowhere(subjects: Subjects, tmp_path: Path) -> None:
    names = ("../../../evil.png", "/etc/evil.png", "a\\..\\..\\evil.png", "link.png")
    photos = bring(subjects, tmp_path / "upload", archive(dict.fromkeys(names, png())))
    assert [one.name for one in photos.photos] == ["evil.png", "evil.png", "evil.png", "link.png"]
    assert [one.file for one in photos.photos] == ["00.png", "01.png", "02.png", "03.png"]
    inside = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path in inside if "evil" in path.name]


def test_what_images_take_once_decoded_counts(
    subjects: Subjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "LIMITS", {**decode.LIMITS, "output": 0})
    files = [(f"{n}.png", tmp_path / str(n)) for n in range(3)]
    for _, path in files:
        path.write_bytes(png())
    photos = subjects.add("ann", files)
    assert len(photos.photos) == 1
    assert "gave up" in photos.problems[0]


def test_a_control_is_trained_through_the_api(ask: Client) -> None:
    """Photos in an archive, one of which brings its edges; the others' are computed."""
    entries = {f"{n}.png": png(seed=n) for n in range(3)}
    entries |= {"0.txt": "a house", "maps/0.png": edges(0)}
    files = [("photos", ("set.zip", archive(entries)))]
    brought = ask("POST", "/api/subjects", files=files).json()
    assert [bool(one["control"]) for one in brought["photos"]] == [True, False, False]
    place = f"/api/subjects/{brought['id']}"
    given = ask("GET", f"{place}/control/{brought['photos'][0]['file']}?kind=canny")
    assert np.array_equal(_rgb(given.content), _rgb(edges(0)))
    computed = ask("GET", f"{place}/control/{brought['photos'][1]['file']}?kind=canny")
    assert np.array_equal(_rgb(computed.content), _rgb(edges(1)))
    other = ask("GET", f"{place}/control/{brought['photos'][1]['file']}?kind=canny", user="bob")
    assert other.status_code == 422
    config = {
        "method_settings": {"rank": 4}, "max_train_steps": 2, "train_batch_size": 1,
    }  # fmt: skip
    body = {"kind": "control", "subject": brought["id"], "config": config}
    made = ask("POST", "/api/jobs", json=body)
    assert made.status_code == 201, made.text
    job = follow(ask, made.json()["id"])
    assert (job["status"], job["step"]) == ("succeeded", 2), job["error"]
    (adapter,) = [one for one in ask("GET", "/api/adapters").json() if one["job"] == job["id"]]
    assert (adapter["kind"], adapter["condition"]) == ("control", "canny")
    samples = ask("GET", f"/api/jobs/{job['id']}/curves").json()["samples"]
    assert samples[-1]["prompts"] == ["a house", "a photo"]
    again = ask("POST", f"/api/jobs/{job['id']}/duplicate", json={"config": {"seed": 3}})
    assert again.status_code == 201, again.text
    assert ask("POST", f"/api/jobs/{again.json()['id']}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("config", "field", "told"),
    [
        ({"condition_type": "depth"}, "condition_type", "Bring a control image with each photo"),
        ({"condition_type": "../x"}, "condition_type", "no kind of control image"),
        ({"condition_model": "/etc"}, "condition_model", "not a setting"),
        ({"train_data_dir": "/etc"}, "train_data_dir", "not a setting"),
        ({"method": "none; id"}, "method", "not a method"),
        ({"hint_learning_rate": 0}, "hint_learning_rate", "greater than 0"),
    ],
)
def test_a_bad_control_setting_is_told_beside_its_field(
    ask: Client, config: dict[str, Any], field: str, told: str
) -> None:
    files = [("photos", ("a.png", png()))]
    subject = ask("POST", "/api/subjects", files=files).json()["id"]
    body = {"kind": "control", "subject": subject, "config": config}
    answer = ask("POST", "/api/jobs", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert told in answer.json()["error"]


def test_a_control_image_of_another_kind_is_refused(ask: Client) -> None:
    files = [("photos", ("a.png", png())), ("control_images", ("a.png", png(seed=2)))]
    subject = ask("POST", "/api/subjects", files=files).json()["id"]
    body = {"kind": "control", "subject": subject, "config": {"condition_type": "canny"}}
    answer = ask("POST", "/api/jobs", json=body)
    assert answer.status_code == 422
    assert "The control image of photo 1 cannot be used" in answer.json()["error"]


@pytest.mark.parametrize(("family", "file"), [("demo", "pocket"), ("sd", "sd15")])
def test_the_form_s_figures_are_those_of_the_recipes(family: str, file: str) -> None:
    recipe = yaml.safe_load((ROOT / "configs" / file / "canny-hra.yaml").read_text())
    ours = dict(RECIPES[family])
    assert ours.pop("method_settings") == {"rank": recipe["rank"]}
    assert ours == {name: recipe[name] for name in ours}
    assert CONTROL_SHARES["balanced"] == 1


@pytest.mark.slow
def test_a_training_is_evaluated_through_the_api(ask: Client) -> None:
    files = [("photos", (f"{n}.png", png(seed=n))) for n in range(2)]
    subject = ask("POST", "/api/subjects", files=files).json()["id"]
    config = {
        "class_word": "dog", "method_settings": {"rank": 4}, "max_train_steps": 1,
        "train_batch_size": 1, "validation_prompts": [],
    }  # fmt: skip
    body = {"kind": "dreambooth", "subject": subject, "config": config}
    trained = follow(ask, ask("POST", "/api/jobs", json=body).json()["id"])
    assert trained["status"] == "succeeded", trained["error"]
    body = {"kind": "evaluate", "config": {"adapter": trained["id"], "num_images": 1}}
    made = ask("POST", "/api/jobs", json=body)
    assert made.status_code == 201, made.text
    job = follow(ask, made.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    place = f"/api/jobs/{job['id']}/files"
    report = ask("GET", f"{place}/report.json").json()
    assert "dog" in report["subject"]
    assert report["parameters"] > 0
    grid = Image.open(io.BytesIO(ask("GET", f"{place}/grid.png").content))
    assert min(grid.size) > 32
    assert job["thumbnail"]
    again = ask("POST", f"/api/jobs/{job['id']}/duplicate", json={"config": {"num_images": 2}})
    assert again.status_code == 201, again.text
    copied = ask("GET", f"/api/jobs/{again.json()['id']}/config").json()
    assert (copied["num_images"], copied["adapter"]) == (2, trained["id"])
    ask("POST", f"/api/jobs/{again.json()['id']}/cancel")
    assert ask("DELETE", f"/api/jobs/{job['id']}").status_code == 204
    assert ask("GET", "/api/jobs?group=trash").json()["jobs"][0]["id"] == job["id"]
    assert ask("POST", f"/api/jobs/{job['id']}/restore").json()["trashed"] is False
