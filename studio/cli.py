"""`orthodiff studio [--host ...] [--port ...] [--base ...] [--data ...]`: open the web page."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orthodiff.errors import UserError

if TYPE_CHECKING:
    from .services.jobs.ray import RayCluster


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until it is interrupted; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 0 < options.port < 2**16:
        parser.error(f"--port is {options.port}, but ports go from 1 to 65535. Use 7860.")
    try:
        return _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.make_token:
        print(secrets.token_urlsafe(24))
        return 0
    if options.add_user:
        return _add_user(options)
    from .serve import Serving, serve

    serve(
        Serving(
            bases=options.base,
            data=options.data,
            runs=options.runs,
            host=options.host,
            port=options.port,
            users=options.users,
            allow_hosts=options.allow_host or (),
            database=options.database,
            cluster=_cluster(options),
        )
    )
    return 0


def _cluster(options: argparse.Namespace) -> RayCluster | None:
    from .services.jobs.ray import RayCluster

    if options.executor == "local":
        return None
    if not options.ray_address:
        raise UserError("Say where the cluster's dashboard is: --ray_address http://HOST:8265.")
    return RayCluster(options.ray_address, jobs=options.ray_jobs, gpus=options.ray_gpus)


def _add_user(options: argparse.Namespace) -> int:
    from .security.users import add_user

    if options.users is None:
        raise UserError("Say which file the user goes into: --users FILE --add_user NAME.")
    print(add_user(options.users, options.add_user))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="orthodiff studio", description="Open the studio, a web page on this computer."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    add("--port", default=7860, type=int, help="port [%(default)s]")
    add("--base", action="append", help="base model; repeatable [pocket]")
    add("--data", default=Path("~/.local/share/orthodiff"), type=Path, help="state [%(default)s]")
    add("--runs", type=Path, help="where runs live [./runs if there is one, else DATA/runs]")
    add("--users", type=Path, help="file of users, who log in with a token each")
    add("--allow_host", "--allow-host", action="append", help="name to answer to; repeatable")
    add(
        "--database",
        default=os.environ.get("ORTHODIFF_DATABASE"),
        help="URL of a PostgreSQL database, this studio's own [ORTHODIFF_DATABASE, else SQLite]",
    )
    add("--executor", choices=("local", "ray"), default="local", help="where trainings run [local]")
    add("--ray_address", "--ray-address", help="dashboard of the Ray cluster, http://HOST:8265")
    add("--ray_jobs", "--ray-jobs", type=_count, default=1, help="jobs at a time on it [1]")
    add("--ray_gpus", "--ray-gpus", type=_count, default=0, help="GPUs of each of them [0]")
    add("--make_token", "--make-token", action="store_true", help="print a random token, and end")
    add("--add_user", "--add-user", metavar="NAME", help="add a user to --users, print the token")
    return parser


def _count(text: str) -> int:
    """A number that counts something.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"`{text}` is no number of things; give 0, 1, 2, ...")
    return int(text)
