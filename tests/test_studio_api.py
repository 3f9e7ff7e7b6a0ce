"""The API and its guard, asked as programs and as attackers would ask."""

import asyncio
import io
import json
import runpy
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.io.png_metadata import read_recipe
from orthodiff.studio.api.app import make_app
from orthodiff.studio.security.guard import Rules, allowed_hosts
from orthodiff.studio.security.users import Users, token_digest
from orthodiff.studio.serve import check_bind
from orthodiff.studio.services.jobs.job import Job, new_id
from orthodiff.studio.services.uploads.quota import Quota
from orthodiff.studio.state import Studio
from tests.photos import photo
from tests.runs import ROOT, make_images, train

TOKENS = {"ann": "a" * 32, "bob": "b" * 32}
HOST = "127.0.0.1:7860"
PATIENCE = 120.0


class Client:
    """Asks the application itself, without a socket."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(
        self,
        method: str,
        path: str,
        *,
        user: str | None = "ann",
        host: str = HOST,
        address: str = "127.0.0.1",
        **options: Any,
    ) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if user:
            headers["authorization"] = f"Bearer {TOKENS.get(user, user)}"

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(address, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with a finished training of `ann`."""
    place = tmp_path_factory.mktemp("studio")
    assert train(tiny, make_images(place / "photos"), place / "runs" / "vase") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        opened = Studio.open(
            bases=[str(tiny)], data=place / "data", runs=place / "runs", adopter="ann"
        )
        yield opened
        for job in opened.jobs.store.in_status("running", "queued"):
            opened.jobs.store.cancel_queued(job.id)
            opened.jobs.executors[job.lane].stop(job, hard=True)
        opened.close()


@pytest.fixture(scope="module")
def ask(studio: Studio) -> Client:
    users = Users({name: token_digest(token) for name, token in TOKENS.items()})
    rules = Rules(hosts=allowed_hosts("127.0.0.1", ["studio.example"]), body=1, upload=8)

    async def build() -> Any:
        return make_app(studio, users=users, rules=rules)

    return Client(asyncio.run(build()))


def png(size: tuple[int, int] = (80, 64), seed: int = 0) -> bytes:
    packed = io.BytesIO()
    photo(seed, size).save(packed, "PNG")
    return packed.getvalue()


def upload(ask: Client, *contents: bytes, user: str = "ann", **form: str) -> httpx.Response:
    files = [("photos", (f"{n}.png", content)) for n, content in enumerate(contents)]
    return ask("POST", "/api/subjects", user=user, files=files, data=form)


def follow(ask: Client, job_id: str) -> dict[str, Any]:
    """A job once it has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        job = ask("GET", f"/api/jobs/{job_id}").json()
        if job["status"] not in ("queued", "running"):
            return job
        time.sleep(0.1)
    raise AssertionError(f"still {job}")


def test_health_and_openapi(ask: Client) -> None:
    assert ask("GET", "/api/health", user=None).json()["status"] == "ok"
    schema = ask("GET", "/openapi.json").json()
    for path in ("/api/jobs", "/api/jobs/{job_id}/events", "/api/generate", "/api/adapters"):
        assert path in schema["paths"]
    page = ask("GET", "/docs").text
    assert "/api/jobs/{job_id}/pause" in page
    assert "http://" not in page
    assert "https://" not in page


def test_images_through_the_api(ask: Client) -> None:
    adapter = next(one for one in ask("GET", "/api/adapters").json() if one["job"])
    assert (adapter["name"], adapter["base"]) == ("vase", "base")
    config = {
        "adapters": [{"id": adapter["id"], "checkpoint": "last"}],
        "prompts": ["a photo of {trigger} at night"],
        "num_images": 2,
        "num_inference_steps": 2,
        "compare": True,
        "strengths": [0, 1],
    }
    made = ask("POST", "/api/generate", json={"config": config})
    assert made.status_code == 202
    job = follow(ask, made.json()["id"])
    assert job["status"] == "succeeded", job
    images = ask("GET", f"/api/jobs/{job['id']}/images").json()
    assert [image["label"] for image in images[::2]] == ["Base", "Strength 0", "Strength 1"]
    assert images[0]["prompt"] == "a photo of sks dog at night"
    pixels = [_pixels(ask, image["url"]) for image in images]
    assert pixels[:2] == pixels[2:4], "strength 0 is not the base"
    assert pixels[0] != pixels[4]
    for name in ("bob", None):
        assert ask("GET", f"/{images[0]['url']}", user=name).status_code in (401, 404)
    with_zip = ask("GET", f"/api/jobs/{job['id']}/zip")
    assert with_zip.headers["content-type"] == "application/zip"
    told = ask("GET", f"/api/jobs/{job['id']}/events").text
    assert "event: Step" in told
    assert told.rstrip().endswith('data: {"status": "succeeded", "error": ""}')
    last = told.count("id: ") - 1
    rest = ask("GET", f"/api/jobs/{job['id']}/events", headers={"last-event-id": str(last - 1)})
    assert [line for line in rest.text.splitlines() if line.startswith("id: ")] == [f"id: {last}"]


def _pixels(ask: Client, url: str) -> bytes:
    return Image.open(io.BytesIO(ask("GET", f"/{url}").content)).tobytes()


def test_a_batch_is_a_job(ask: Client) -> None:
    config = {
        "adapters": [{"id": "vase", "checkpoint": "last"}],
        "prompts": ["a {red|blue} {trigger}"],
        "num_inference_steps": 2,
    }
    for bad, told in (("a __file__", "wildcard"), ("$list", "not a known list"), (" ", "empty")):
        body = {"kind": "batch", "config": {**config, "prompts": [bad]}}
        answer = ask("POST", "/api/jobs", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, "prompts")
        assert told in answer.json()["error"]
        assert "--" not in answer.json()["error"]
    made = ask("POST", "/api/jobs", json={"kind": "batch", "config": config}).json()
    job = follow(ask, made["id"])
    assert (job["status"], job["step"], job["total_steps"]) == ("succeeded", 2, 2), job["error"]
    images = ask("GET", f"/api/jobs/{job['id']}/images").json()
    assert [one["prompt"] for one in images] == ["a red sks dog", "a blue sks dog"]
    assert images[0]["label"] == "vase"
    with zipfile.ZipFile(io.BytesIO(ask("GET", f"/api/jobs/{job['id']}/zip").content)) as pack:
        assert len(pack.namelist()) == 2


def test_a_recipe_names_no_folder_of_this_computer(
    ask: Client, studio: Studio, tmp_path: Path
) -> None:
    config = {"adapters": [{"id": "vase"}], "prompts": ["a cat"], "num_inference_steps": 1}
    made = ask("POST", "/api/generate", json={"config": config}).json()
    assert follow(ask, made["id"])["status"] == "succeeded"
    images = ask("GET", f"/api/jobs/{made['id']}/images").json()
    content = ask("GET", f"/{images[-1]['url']}").content
    (tmp_path / "x.png").write_bytes(content)
    recipe = read_recipe(tmp_path / "x.png")
    assert recipe
    assert (recipe.adapter, recipe.base) == ("vase", "base")
    assert str(studio.data.parent).encode() not in content
    again = upload(ask, content).json()["recipe"]
    assert again["prompt"] == recipe.prompt


def test_uploads_lose_their_hidden_data_and_keep_their_side_up(ask: Client, studio: Studio) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    packed = io.BytesIO()
    photo(0, (40, 20)).save(packed, "JPEG", exif=exif, comment=b"at home")
    answer = upload(ask, packed.getvalue())
    assert answer.status_code == 201
    (shown,) = answer.json()["photos"]
    assert (shown["width"], shown["height"]) == (20, 40)
    stored = list((studio.data / "subjects" / "ann" / answer.json()["id"]).glob("00.*"))
    assert len(stored) == 2
    for path in stored:
        assert b"at home" not in path.read_bytes()
        with Image.open(path) as image:
            assert not image.getexif()
    assert list(studio.scratch.iterdir()) == [], "the upload itself is left behind"


def test_files_that_cannot_be_used_are_named_and_the_others_kept(ask: Client) -> None:
    files = [
        ("photos", ("good.png", png())),
        ("photos", ("../../etc/letter.jpg", b"Dear all")),
        ("photos", ("cut.png", png()[:60])),
        ("photos", ("page.svg", b"<svg onload=alert(1)>")),
    ]
    answer = ask("POST", "/api/subjects", files=files).json()
    assert [one["name"] for one in answer["photos"]] == ["good.png"]
    assert len(answer["problems"]) == 3
    assert "`letter.jpg` cannot be used: it is not in an image format" in answer["problems"][0]
    more = upload(ask, png(seed=5), into=answer["id"]).json()
    assert len(more["photos"]) == 2
    name = more["photos"][0]["file"]
    captioned = ask(
        "POST", f"/api/subjects/{more['id']}/captions", json={"captions": {name: "a/b <i>"}}
    )
    assert captioned.json()["photos"][0]["caption"] == "a/b <i>"
    left = ask("DELETE", f"/api/subjects/{more['id']}/files/{name}").json()
    assert len(left["photos"]) == 1


def test_a_decompression_bomb_and_a_huge_image_are_refused(ask: Client) -> None:
    packed = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(packed, "PNG")
    answer = upload(ask, packed.getvalue())
    assert answer.status_code == 422
    assert "megapixels" in answer.json()["error"]


@pytest.mark.parametrize(
    ("config", "field", "told"),
    [
        ({"base": "/etc"}, "base", "not offered"),
        ({"base": "http://169.254.169.254/latest"}, "base", "not offered"),
        ({"base": "file:///etc/passwd"}, "base", "not offered"),
        ({"base": "gopher://127.0.0.1:6379/_INFO"}, "base", "not offered"),
        ({"base": "//127.0.0.1/share"}, "base", "not offered"),
        ({"base": "someone/hub-model"}, "base", "not offered"),
        ({"base": {"$ref": "/etc"}}, "base", "valid string"),
        ({"method": "hra; rm -rf /"}, "method", "not a method"),
        ({"method_settings": {"rank": 1000}}, "method_settings", "Use at most 16"),
        ({"method_settings": {"rank": 7}}, "method_settings", "even rank"),
        ({"method_settings": {"rank": "x"}}, "method_settings", "no number"),
        ({"method_settings": {"output_dir": 1}}, "method_settings", "not a setting"),
        ({"output_dir": "/tmp/x"}, "output_dir", "not a setting"),
        ({"instance_data_dir": "/etc"}, "instance_data_dir", "not a setting"),
        ({"max_train_steps": 0}, "max_train_steps", "Steps is 0"),
        ({"max_train_steps": 10**9}, "max_train_steps", "less than or equal to"),
        ({"learning_rate": "nan"}, "learning_rate", "finite"),
        ({"train_batch_size": 1.5}, "train_batch_size", "Batch size is 1.5"),
        ({"class_word": "x" * 1000}, "class_word", "What is it?"),
        ({"prompt": "a\x00b"}, "prompt", "plain text"),
        ({"seed": -1}, "seed", "Seed is -1"),
        ({"with_prior_preservation": True, "prompt": "p"}, "class_word", "needs the class"),
    ],
)
def test_a_bad_setting_is_told_beside_its_field_and_nothing_is_written(
    ask: Client, studio: Studio, config: dict[str, Any], field: str, told: str
) -> None:
    subject = upload(ask, png()).json()["id"]
    before = sorted(studio.jobs.runs.root.iterdir())
    whole = {"class_word": "dog", **config}
    if "prompt" in config and field == "class_word":
        whole.pop("class_word")
    body = {"kind": "dreambooth", "subject": subject, "config": whole}
    answer = ask("POST", "/api/jobs", json=body)
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert told in answer.json()["error"]
    assert sorted(studio.jobs.runs.root.iterdir()) == before


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"subject": None}, "no photos yet"),
        ({"subject": "../../etc"}, "no such example"),
        ({"subject": "http://169.254.169.254/latest"}, "no such example"),
        ({"subject": "file:///etc/passwd"}, "no such example"),
        ({"subject": "s000000000000"}, "not here any more"),
        ({"name": "../x"}, "cannot be the name"),
        ({"name": "vase"}, "exists already"),
        ({"kind": "shell"}, "kind"),
        ({"config": {}}, "Say what is on the photos"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_bad_job_is_refused(ask: Client, body: dict[str, Any], told: str) -> None:
    subject = upload(ask, png()).json()["id"]
    whole = {"kind": "dreambooth", "subject": subject, "config": {"class_word": "dog"}, **body}
    answer = ask("POST", "/api/jobs", json=whole)
    assert answer.status_code == 422
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"prompts": [" "]}, "The prompt is empty"),
        ({"prompts": ["a"], "num_images": 65}, "Images each"),
        ({"prompts": ["a"] * 20, "num_images": 8}, "160 images at once are too many"),
        ({"prompts": ["a {trigger}"]}, "no adapter that has a trigger word"),
        ({"prompts": ["a"], "adapters": [{"id": "/etc/passwd"}]}, "no such adapter"),
        ({"prompts": ["a"], "adapters": [{"id": "http://[::1]:22/"}]}, "no such adapter"),
        ({"prompts": ["a"], "adapters": [{"id": "shipped:../../etc"}]}, "no such adapter"),
        ({"prompts": ["a"], "base": "http://169.254.169.254/"}, "not offered"),
        ({"prompts": ["a"], "adapters": [{"id": "vase", "checkpoint": "../.."}]}, "checkpoint is"),
        ({"prompts": ["a"], "adapters": [{"id": "vase", "checkpoint": "77"}]}, "no checkpoint 77"),
        ({"prompts": ["a"], "adapters": [{"id": "vase", "strength": 1e9}]}, "less than or equal"),
        ({"prompts": ["a"], "control_start": 0.5, "control_end": 0.5}, "Let it begin before"),
        ({"prompts": ["a"], "scheduler": "os.system"}, "not a setting"),
    ],
)
def test_a_bad_request_for_images_is_refused(
    ask: Client, config: dict[str, Any], told: str
) -> None:
    answer = ask("POST", "/api/generate", json={"config": config})
    assert answer.status_code == 422
    assert told in answer.json()["error"]


ATTACKS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/", {"host": "evil.example"}, 421),
    ("GET", "/api/jobs", {"host": "evil.example:7860"}, 421),
    ("GET", "/api/jobs", {"host": "studio.example"}, 200),
    ("GET", "/api/jobs", {"host": "127.0.0.1.evil.example"}, 421),
    ("GET", "/api/jobs", {"host": "localhost.:7860"}, 421),
    ("GET", "/api/jobs", {"headers": {"host": ""}}, 421),
    ("POST", "/api/jobs", {"headers": {"origin": "https://evil.example"}}, 403),
    ("POST", "/api/jobs", {"headers": {"origin": "http://127.0.0.1:9999"}}, 403),
    ("DELETE", "/api/jobs/j000000000000", {"headers": {"sec-fetch-site": "cross-site"}}, 403),
    ("POST", "/logout", {"headers": {"origin": "https://evil.example"}, "user": None}, 403),
    ("POST", "/api/subjects", {"headers": {"origin": "null"}}, 403),
    ("POST", "/api/subjects", {"headers": {"sec-fetch-site": "cross-site"}}, 403),
    ("POST", "/login", {"headers": {"origin": "https://evil.example"}, "user": None}, 403),
    ("GET", "/gradio_api/queue/data", {"headers": {"origin": "https://evil.example"}}, 403),
    ("GET", "/api/jobs", {"user": None}, 401),
    ("GET", "/api/jobs", {"user": "x" * 32}, 401),
    ("GET", "/api/adapters", {"user": None}, 401),
    ("POST", "/api/generate", {"user": None, "json": {"config": {}}}, 401),
    ("GET", "/config", {"user": None}, 401),
    ("GET", "/gradio_api/info", {"user": None}, 401),
    ("POST", "/gradio_api/queue/join", {"user": None, "json": {}}, 401),
    ("POST", "/gradio_api/run/predict", {"user": None, "json": {}}, 401),
    ("GET", "/docs", {"user": None}, 401),
    ("GET", "/openapi.json", {"user": None}, 401),
    ("GET", "/studio/app.js", {"user": None}, 401),
    ("GET", "/", {"user": None}, 303),
    ("GET", "/assets/index.js", {"user": None}, 401),
    ("GET", "/api/resources", {"user": None}, 401),
    ("GET", "/api/examples/robot/00.png", {"user": None}, 401),
    ("GET", "/api/jobs/j000000000000/events", {"user": None}, 401),
    ("GET", "/gradio_api/call/generate/x", {"user": None}, 401),
    ("GET", "/gradio_api/heartbeat/x", {"user": None}, 401),
    ("POST", "/gradio_api/upload", {}, 404),
    ("GET", "/gradio_api/file=/etc/passwd", {}, 404),
    ("GET", "/gradio_api/file/etc/passwd", {}, 404),
    ("GET", "/gradio_api/proxy=http://169.254.169.254/", {}, 404),
    ("GET", "/gradio_api/runs", {}, 404),
    ("GET", "/gradio_api/deep_link?session_hash=x", {}, 404),
    ("GET", "/monitoring", {}, 404),
    ("GET", "/monitoring/summary", {}, 404),
    ("GET", "/gradio_api/upload_progress?upload_id=x", {}, 404),
    ("POST", "/gradio_api/component_server", {"json": {}}, 404),
    ("GET", "/gradio_api/stream/a/b/c/playlist.m3u8", {}, 404),
    ("POST", "/gradio_api/vibe-edit/", {"json": {}}, 404),
    ("GET", "/gradio_api/mcp/sse", {}, 404),
    ("GET", "/gradio_api/dev/reload", {}, 404),
    ("GET", "/pwa_icon", {}, 404),
    ("GET", "/custom_component/x/client/component/index.js", {}, 404),
    ("GET", "/../../etc/passwd", {}, 404),
    ("GET", "/studio/../state.py", {}, 404),
    ("GET", "/studio/%2e%2e/state.py", {}, 404),
    ("GET", "/assets/..%2f..%2f..%2fetc%2fpasswd", {}, 403),
    ("GET", "/api/jobs/../../etc/passwd", {}, 404),
    ("GET", "/api/exports/..%2f..%2fstudio.db", {}, 404),
    ("GET", "/api/examples/robot/..%2fsubject.json", {}, 404),
    ("GET", "/api/subjects/..%2fbob/files/00.png", {}, 404),
    ("POST", "/api/jobs", {"content": b"x" * (2 << 20)}, 413),
    ("POST", "/api/subjects", {"content": b"x" * (9 << 20)}, 413),
    ("POST", "/api/jobs", {"headers": {"content-length": "-5"}, "content": b""}, 413),
    ("POST", "/api/jobs", {"headers": {"content-length": "1e9"}, "content": b""}, 413),
    ("POST", "/api/jobs", {"content": b"[" * 100_000}, 422),
    ("POST", "/login", {"data": {"token": "x" * 300}, "user": None}, 422),
    ("GET", "/api/jobs?page=0", {}, 422),
    ("GET", "/api/jobs?per_page=100000", {}, 422),
    ("GET", "/api/jobs?kind=%27%20or%201=1", {}, 422),
]


@pytest.mark.parametrize(("method", "path", "options", "status"), ATTACKS)
def test_the_table_of_attacks(
    ask: Client, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = ask(method, path, **options)
    assert answer.status_code == status, answer.text[:300]
    assert "root:" not in answer.text


def test_a_body_without_a_length_is_counted(ask: Client) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b"x" * (1 << 16)

    answer = ask("POST", "/api/jobs", content=endless())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "name",
    ["../photos/0.png", "..%2f..%2fconfig.yaml", "%2e%2e/vase/config.yaml", ".lock", "ticket.json",
     "/etc/passwd", "photos/../../../etc/passwd", "a\\..\\b.png", "exit_code", "link.png", "%00"],
)  # fmt: skip
def test_only_a_job_s_own_files_are_served(ask: Client, studio: Studio, name: str) -> None:
    (job,) = [j for j in ask("GET", "/api/jobs").json()["jobs"] if j["name"] == "vase"]
    link = studio.jobs.runs.root / "vase" / "link.png"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    assert ask("GET", f"/api/jobs/{job['id']}/files/{name}").status_code in (404, 422)
    assert ask("GET", f"/api/jobs/{job['id']}/files/config.yaml").status_code == 200


def test_another_user_gets_nothing(ask: Client) -> None:
    (job,) = [j for j in ask("GET", "/api/jobs").json()["jobs"] if j["name"] == "vase"]
    subject = upload(ask, png()).json()
    assert ask("GET", "/api/jobs", user="bob").json()["total"] == 0
    here = f"/api/jobs/{job['id']}"
    paths = [here, *(f"{here}/{end}" for end in ("curves", "images", "config", "log", "events"))]
    paths += [f"{here}/files/config.yaml", f"{here}/zip", f"/{subject['photos'][0]['url']}"]
    paths += [f"/api/subjects/{subject['id']}"]
    for path in paths:
        assert ask("GET", path, user="bob").status_code in (404, 422), path
    for end in ("cancel", "pause", "resume", "restore"):
        assert ask("POST", f"{here}/{end}", user="bob").status_code == 404
    assert ask("DELETE", here, user="bob").status_code == 404
    body = {"kind": "dreambooth", "subject": subject["id"], "config": {"class_word": "x"}}
    assert ask("POST", "/api/jobs", user="bob", json=body).status_code == 422
    adapter = {"prompts": ["a"], "adapters": [{"id": job["id"]}]}
    assert ask("POST", "/api/generate", user="bob", json={"config": adapter}).status_code == 422


def test_no_route_answers_without_a_login(ask: Client) -> None:
    """Whatever routes there are, those of tomorrow too."""
    for path, operations in ask("GET", "/openapi.json").json()["paths"].items():
        for method in operations:
            if path != "/api/health":
                answer = ask(method.upper(), path.replace("{", "").replace("}", ""), user=None)
                assert answer.status_code == 401, (method, path)


def test_no_route_gives_one_user_s_things_to_another(ask: Client) -> None:
    """Every route that takes an id, asked with the id of somebody else's job, upload or adapter."""
    (job,) = [j for j in ask("GET", "/api/jobs").json()["jobs"] if j["name"] == "vase"]
    ids = {
        "job_id": job["id"], "adapter_id": job["id"], "subject_id": upload(ask, png()).json()["id"],
        "name": "config.yaml", "file": "00.png",
    }  # fmt: skip
    routes = [
        (method.upper(), path.format_map(ids))
        for path, operations in ask("GET", "/openapi.json").json()["paths"].items()
        for method in operations
        if "_id}" in path
    ]
    assert len(routes) > 20
    answers = [(r, ask(*r, user="bob", json=None if r[0] == "GET" else {})) for r in routes]
    assert [(r, a.status_code) for r, a in answers if a.status_code not in (404, 422)] == []
    assert job["id"] in [one["id"] for one in ask("GET", "/api/jobs").json()["jobs"]]


def test_what_is_kept_in_memory_is_kept_for_one_user(ask: Client) -> None:
    """Answers and pages are handed out again, but never to somebody else or under another name."""
    mine = ask("GET", "/api/jobs")
    tag = {"if-none-match": mine.headers["etag"]}
    assert ask("GET", "/api/jobs", headers=tag).status_code == 304
    theirs = ask("GET", "/api/jobs", user="bob", headers=tag)
    assert (theirs.status_code, theirs.json()["total"]) == (200, 0)
    assert ask("GET", "/api/jobs", user=None, headers=tag).status_code == 401
    assert [one for one in ask("GET", "/api/adapters", user="bob").json() if one["job"]] == []
    assert '"username":"ann"' in ask("GET", "/").text
    page = ask("GET", "/", user="bob").text
    assert '"username":"bob"' in page
    assert '"username":"ann"' not in page
    assert ask("GET", "/", user=None).status_code == 303
    forged = ask("GET", "/", headers={"x-forwarded-host": "evil.example"})
    assert "evil.example" not in ask("GET", "/").text
    assert "username" in forged.text


def test_more_than_a_user_may_bring_is_refused(
    ask: Client, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orthodiff.studio.services.uploads.subjects.MOST_PHOTOS", 2)
    many = upload(ask, *[png()] * 3)
    assert (many.status_code, "too many" in many.json()["error"]) == (422, True)
    for quota, told in (
        (Quota(file=0), "is larger than 0 MB"),
        (Quota(user=-1), "Your uploads take more"),
        (Quota(total=-1), "All uploads here take more"),
    ):
        monkeypatch.setattr(studio.subjects, "quota", quota)
        answer = upload(ask, png(), user="bob")
        assert (answer.status_code, told in answer.json()["error"]) == (422, True), answer.text
    assert list(studio.scratch.iterdir()) == []


def test_the_example_drives_a_training(
    ask: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over a real socket, as its reader would run it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORTHODIFF_TOKEN", TOKENS["ann"])
    path = ROOT / "examples" / "studio_api.py"
    script = runpy.run_path(str(path))
    with served(ask.app) as url:
        script["main"](url, str(ROOT / "assets" / "subjects" / "robot"), "robot", "2")
    said = capsys.readouterr().out
    assert "step 2: loss" in said
    assert read_recipe(tmp_path / "seed-0.png").prompt == "a photo of sks robot at night"


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The application on a loopback port, in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)


def test_no_web_socket_is_opened(ask: Client) -> None:
    sent: list[Any] = []

    async def connect() -> None:
        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await ask.app({"type": "websocket", "path": "/", "headers": []}, receive, send)

    asyncio.run(connect())
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_place_in_the_queue_counts_all_users(ask: Client, studio: Studio, tmp_path: Path) -> None:
    """Who has one job waiting among somebody else's four is the second, not the first or fifth."""
    store = studio.jobs.store
    studio.jobs.scheduler.executors["training"].slots, slots = 0, 1
    owners = ("ann", "ann", "bob", "ann")
    rows = [
        store.add(Job(new_id(), "dreambooth", o, f"q{n}", "queued", tmp_path, float(n)))
        for n, o in enumerate(owners)
    ]
    listed = ask("GET", "/api/jobs", user="bob").json()["jobs"]
    mine = [ask("GET", f"/api/jobs/{rows[n].id}").json()["place_in_queue"] for n in (0, 1, 3)]
    for job in rows:
        store.cancel_queued(job.id)
        store.trash(job.id)
    studio.jobs.scheduler.executors["training"].slots = slots
    assert [job["place_in_queue"] for job in listed] == [2 if mine[0] == 1 else 1]
    assert sorted([*mine, listed[0]["place_in_queue"]]) == [1, 2, 3, 4]


def test_every_answer_has_its_headers(ask: Client) -> None:
    for path, options in (("/", {}), ("/api/jobs", {}), ("/nothing", {}), ("/", {"host": "x"})):
        headers = ask("GET", path, **options).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_login_lasts_until_the_logout(ask: Client) -> None:
    answer = ask("POST", "/login?job=j1", user=None, data={"token": TOKENS["bob"]})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?job=j1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    kept = {"cookie": cookie.partition(";")[0]}
    assert ask("GET", "/api/jobs", user=None, headers=kept).status_code == 200
    assert ask("POST", "/logout", user=None, headers=kept).status_code == 303
    assert ask("GET", "/api/jobs", user=None, headers=kept).status_code == 401


def test_guessing_tokens_is_slowed(ask: Client) -> None:
    def login(token: str, address: str) -> int:
        answer = ask("POST", "/login", user=None, address=address, data={"token": token})
        return answer.status_code

    guesses = [login(f"guess {number}", "203.0.113.9") for number in range(6)]
    assert guesses == [403] * 5 + [429]
    assert login(TOKENS["ann"], "203.0.113.9") == 429
    assert login(TOKENS["ann"], "203.0.113.10") == 303


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_public_address_needs_a_login(host: str) -> None:
    with pytest.raises(UserError, match="would let everybody"):
        check_bind(host, Users())
    check_bind(host, Users({"ann": token_digest(TOKENS["ann"])}))
    check_bind("127.0.0.1", Users())


def test_state_is_private(studio: Studio) -> None:
    assert studio.data.stat().st_mode & 0o077 == 0
    for folder in studio.data.iterdir():
        assert not folder.is_dir() or folder.stat().st_mode & 0o077 == 0, folder


def test_a_page_is_shown_and_asks_nobody_else(ask: Client) -> None:
    page = ask("GET", "/")
    assert page.status_code == 200
    assert "/studio/app.js" in page.text
    config = json.loads(ask("GET", "/config").text)
    assert not config.get("analytics_enabled")
