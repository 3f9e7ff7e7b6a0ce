"""A hub on this computer: enough of its protocol to download a model and to upload a run."""

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
    """Serves the folders in `models` by id; `gated` ids are listed, but give no files.

    What is uploaded lands in `uploaded`, path by path.
    """

    def __init__(self, models: dict[str, Path], *, gated: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.gated = models, gated
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
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._tell_about("/".join(parts[2:4]), wants_tree="tree" in parts)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._give_file("/".join(parts[:2]), "/".join(parts[4:]))
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

    def _tell_about(self, name: str, *, wants_tree: bool) -> None:
        folder = self.server.models.get(name)
        if folder is None:
            self._refuse(401, "RepoNotFound")
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = {path.relative_to(folder).as_posix(): path for path in files}
        if wants_tree:
            sizes = {name: path.stat().st_size for name, path in names.items()}
            entry = {"type": "file", "oid": COMMIT}
            self._json([{**entry, "path": name, "size": size} for name, size in sizes.items()])
            return
        siblings = [{"rfilename": name} for name in names]
        gated = "auto" if name in self.server.gated else False
        self._json({"id": name, "sha": COMMIT, "siblings": siblings, "gated": gated})

    def _give_file(self, name: str, path: str) -> None:
        folder = self.server.models.get(name)
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
