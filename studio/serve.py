"""Serves the studio: on this computer only by default, never in public without a login."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL

from orthodiff.errors import UserError
from orthodiff.io.assets import shipped

from .security.users import VARIABLE, Users, read_users
from .services.jobs.ray import RayCluster

DEFAULT_DATA = Path("~/.local/share/orthodiff")
DEFAULT_BASE = "pocket"
SAFE_PILLOW = 13
CLOSING, KEEP_ALIVE = 5, 75
"""Seconds that open requests get when the server ends, and that an idle connection is kept."""


@dataclass(frozen=True)
class Serving:
    """What the command line says."""

    bases: Sequence[str] | None = None
    data: Path = DEFAULT_DATA
    runs: Path | None = None
    host: str = "127.0.0.1"
    port: int = 7860
    users: Path | None = None
    allow_hosts: Sequence[str] = ()
    database: str | None = None
    cluster: RayCluster | None = None


def serve(options: Serving) -> None:
    """Open the page and stay until interrupted.

    Raises:
        UserError: there is no base model to work with, the port is taken, the data folder is in
            use, or a public address was asked for without a login.
    """
    bases = tuple(options.bases or [DEFAULT_BASE])
    check_bases(bases)
    users = read_users(options.users)
    check_bind(options.host, users)
    check_port(options.host, options.port)
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C: tidily
    os.environ["GRADIO_TEMP_DIR"] = str(options.data.expanduser().resolve() / "cache")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import uvicorn

    from .api.app import make_app
    from .security.guard import Rules, allowed_hosts
    from .state import Studio

    studio = Studio.open(
        bases=bases,
        data=options.data,
        runs=runs_folder(options),
        database=options.database,
        adopter=users.first,
        warm=options.cluster is None,
        cluster=options.cluster,
    )
    rules = Rules(hosts=allowed_hosts(options.host, options.allow_hosts))
    app = make_app(studio, users=users, rules=rules)
    print(f"orthodiff studio: http://{_shown(options.host)}:{options.port}", flush=True)
    if note := decoder_note(PIL.__version__):
        print(f"note: {note}", file=sys.stderr)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CLOSING,
        timeout_keep_alive=KEEP_ALIVE,
    )


def runs_folder(options: Serving) -> Path:
    """Where runs live: as asked, else where earlier ones are, else in the data folder."""
    if options.runs is not None:
        return options.runs
    here = Path("runs")
    return here if here.is_dir() else options.data.expanduser() / "runs"


def check_bind(host: str, users: Users) -> None:
    """Refuse to answer the whole network without a login.

    Raises:
        UserError: the address is not of this computer alone, and nobody would need a token.
    """
    if users.is_open and not is_loopback(host):
        raise UserError(
            f"--host {host} would let everybody on the network use this computer. Give a token "
            f"first: export {VARIABLE}=$(orthodiff studio --make_token), or --users FILE."
        )


def is_loopback(host: str) -> bool:
    """Whether an address is of this computer alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken, before anything is loaded.

    Raises:
        UserError: it cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UserError(
            f"The studio cannot listen on {host}:{port} ({error.strerror}). Choose another --port."
        ) from error


def check_bases(names: Sequence[str]) -> None:
    """Refuse a base that can be seen to be none.

    Raises:
        UserError: a folder without a model, or a path to nothing.
    """
    for name in names:
        folder = shipped(name)
        if folder.is_dir() and not (folder / "model_index.json").is_file():
            raise UserError(
                f"`{name}` holds no model_index.json, so it is not a base model. Give --base the "
                "folder that holds model_index.json, unet/, vae/ and text_encoder/."
            )
        looks_like_path = folder.is_absolute() or name.startswith(".") or name.count("/") != 1
        exists = folder.is_dir() or (folder.is_file() and folder.suffix == ".safetensors")
        if not exists and (looks_like_path or name.startswith("assets/")):
            raise UserError(
                f"The base model `{name}` does not exist. Give --base a folder, a .safetensors "
                "file or a hub id."
            )


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def decoder_note(pillow: str) -> str:
    """What to do about a `pillow` whose decoders have known holes; nothing where they have none."""
    if int(pillow.partition(".")[0]) >= SAFE_PILLOW:
        return ""
    return (
        f"Pillow {pillow} has known holes in its decoders. Uploads are decoded in a process of "
        f"their own with limits; still, run `pip install --upgrade 'pillow>={SAFE_PILLOW}'` and "
        "ignore that gradio objects."
    )
