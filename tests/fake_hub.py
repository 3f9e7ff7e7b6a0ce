"""A hub on this computer: enough of its protocol to download models and datasets, and to upload."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Serves folders by id, those of datasets by `datasets/ID`; `gated` ids give no files.

    What is uploaded lands in `uploaded`, path by path.
    """

    def __init__(self, folders: dict[str, Path], *, gated: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders, self.gated = folders, gated
        self.uploaded: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).strip("/")
        if path.startswith("api/"):
            name, *rest = _split(path.removeprefix("api/").removeprefix("models/"))
            if rest[:1] == ["tree"]:
                self._list(name, "/".join(rest[2:]), deep="recursive=true" in url.query.lower())
            else:
                self._tell_about(name)
        elif "/resolve/" in path:
            name, _resolve, _revision, *rest = _split(path)
            self._give_file(name, "/".join(rest))
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            name = json.loads(content)["name"]
            self._json({"url": f"{self.server.url}/me/{name}", "name": f"me/{name}"})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(content)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            self._json({"files": [{"path": path, **plain} for path in paths]})
        elif "/commit/" in self.path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.uploaded[value["path"]] = base64.b64decode(value["content"])
            name = "/".join(self.path.split("/")[3:5])
            url = f"{self.server.url}/{name}/commit/{COMMIT}"
            self._json({"commitUrl": url, "commitOid": COMMIT})
        else:
            self._json({})

    def _tell_about(self, name: str) -> None:
        folder = self.server.folders.get(name)
        if folder is None:
            self._refuse(401, "RepoNotFound")
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
        gated = "auto" if name in self.server.gated else False
        self._json({"id": name, "sha": COMMIT, "siblings": siblings, "gated": gated})

    def _list(self, name: str, path: str, *, deep: bool) -> None:
        folder = self.server.folders.get(name)
        if folder is None or not (folder / path).is_dir():
            self._refuse(404, "EntryNotFound")
            return
        found = sorted((folder / path).glob("**/*" if deep else "*"))
        self._json([_entry(each, folder) for each in found])

    def _give_file(self, name: str, path: str) -> None:
        folder = self.server.folders.get(name)
        if folder is None or name in self.server.gated:
            self._refuse(401, "GatedRepo" if folder else "RepoNotFound")
        elif (folder / path).is_file():
            content = (folder / path).read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _json(self, content: object) -> None:
        headers = {"Content-Type": "application/json"}
        self._answer(200, json.dumps(content).encode(), headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(path: Path, folder: Path) -> dict[str, object]:
    """A line of a listing."""
    kind, size = ("file", path.stat().st_size) if path.is_file() else ("directory", 0)
    place = path.relative_to(folder).as_posix()
    return {"type": kind, "oid": COMMIT, "path": place, "size": size}


def _split(path: str) -> list[str]:
    """The id that a path begins with, and its other parts."""
    parts = path.split("/")
    owner = 3 if parts[0] == "datasets" else 2
    return ["/".join(parts[:owner]), *parts[owner:]]
