"""`python -m tests.mutation MODULE [--tests TEST ...]`: make mutants, run tests, report."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from .forks import Runner
from .operators import SELECTED

ROOT = Path(__file__).parents[2]
PLACE = ROOT.parent if ROOT.parent.name == "mutants" else ROOT / "build/mutants"
TREE = PLACE / "tree"
"""The copy that is mutated, where this program runs itself again."""
NO_MUTANT = "pragma: no mutate"


def main() -> None:
    """Copy the tree, find out which tests run what, and try every mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="folder or file, such as orthodiff/ops")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="tests to choose from")
    parser.add_argument("--again", action="store_true", help="forget results of an earlier run")
    options = parser.parse_args()
    if Path.cwd() != TREE:
        copy_tree(TREE)
        environment = {**os.environ, "PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-B", "-m", "tests.mutation", *sys.argv[1:]]
        sys.exit(subprocess.run(command, cwd=TREE, env=environment).returncode)
    found = lines_of(options.tests)
    module = Path(options.module)
    paths = sorted(module.rglob("*.py")) if module.is_dir() else [module]
    if not paths or not paths[0].is_file():
        parser.error(f"there is no Python file at `{module}`")
    session = PLACE / f"{str(module).replace('/', '-')}.sqlite"
    if options.again:
        session.unlink(missing_ok=True)
    with use_db(str(session), WorkDB.Mode.create) as work:
        if not work.num_work_items:
            init(paths, work, {})
        runner = Runner(found, paths)
        runner.check()
        try_mutants(work, runner)
        report(work)


def copy_tree(place: Path) -> None:
    """Copy the files under version control: mutations never touch the checkout."""
    shutil.rmtree(place, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(lambda name: name and (ROOT / name).is_file(), listed):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, place / name)


def lines_of(tests: Sequence[str]) -> Path:
    """The file that says which tests run which line; made anew when a Python file has changed."""
    key = hashlib.sha256(" ".join(tests).encode())
    for path in sorted(Path().rglob("*.py")):
        key.update(f"{path}\n".encode() + path.read_bytes())
    found = PLACE / f"lines-{key.hexdigest()[:16]}.json"
    if not found.exists():
        print("Running the tests once to learn which lines each of them runs ...", flush=True)
        command = [sys.executable, "-B", "-m", "tests.mutation.lines", str(found), *tests]
        code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        if code:
            print(
                f"The tests do not all pass (pytest's code {code}); those that fail are left out."
            )
    return found


def try_mutants(work: WorkDB, runner: Runner) -> None:
    """Give every mutant that has none a result."""
    pending = [item for item in work.pending_work_items if is_of_interest(item, runner)]
    for number, item in enumerate(pending, 1):
        (mutation,) = item.mutations
        path = Path(mutation.module_path)
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        with use_mutation(path, operator, mutation.occurrence) as (_, mutated):
            if mutated is None:
                continue
            noticed = runner.notices(path)
        outcome = TestOutcome.KILLED if noticed else TestOutcome.SURVIVED
        work.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, test_outcome=outcome))
        if number % 25 == 0:
            print(f"{number} of {len(pending)} mutants", flush=True)


def is_of_interest(item: WorkItem, runner: Runner) -> bool:
    """Whether the operator is one of ours and the line may be mutated.

    cosmic-ray takes the stars of `def f(x, *, y)` and `f(*x)` for products.
    """
    (mutation,) = item.mutations
    row, column = mutation.start_pos
    line = runner.original[Path(mutation.module_path)].splitlines()[row - 1]
    is_star = line[column] == "*" and line[column + 1 : column + 2] not in (" ", "*", "=")
    return bool(SELECTED.match(mutation.operator_name)) and not is_star and NO_MUTANT not in line


def report(work: WorkDB) -> None:
    """Print the survivors and the share of mutants that were killed, by file."""
    results = dict(work.results)
    killed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for item in work.work_items:
        if item.job_id not in results:
            continue
        (mutation,) = item.mutations
        name, row = str(mutation.module_path), mutation.start_pos[0]
        is_killed = results[item.job_id].is_killed
        total[name] += 1
        killed[name] += is_killed
        if not is_killed:
            line = Path(name).read_text("utf-8").splitlines()[row - 1].strip()
            print(f"survived  {name}:{row}  {mutation.operator_name.split('/')[1]}  {line}")
    print(f"\n{'killed':>8} {'of':>5}")
    for name in sorted(total):
        print(f"{killed[name]:>8} {total[name]:>5}  {killed[name] / total[name]:6.1%}  {name}")
    done = sum(killed.values()), sum(total.values())
    print(f"{done[0]:>8} {done[1]:>5}  {done[0] / max(done[1], 1):6.1%}  in all")


if __name__ == "__main__":
    main()
