"""The tool that makes wrong lines makes those it says, finds tests that run them, and counts."""

import contextlib
import json
import os
import time

import psutil
import pytest

from tests.mutation.forks import in_fork, mutate
from tests.mutation.lines import LinesOfTests, Measured, _moved
from tests.mutation.patch import Functions, NotPatchableError, changed
from tests.mutation.report import Verdict, Verdicts, interval, table

NEEDS = "needs the extra: pip install '.[mutants]'"


def is_running(process: int) -> bool:
    """Whether it is there and no zombie that its new parent has not fetched yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


class TestPatch:
    BEFORE = """
import functools

def twice(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(function(x))
    return wrapper

@twice
def more(x, by=1):
    return x + by

class Box:
    size = 3
    def half(self):
        return self.size / 2
"""

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("x + by", "x - by", (3, 1.5)),
            ("function(function(x))", "function(x)", (6, 1.5)),
            ("self.size / 2", "self.size / 3", (7, 1.0)),
        ],
    )
    def test_functions_do_at_once_what_the_new_text_says(self, old, new, expected, tmp_path):
        file = str(tmp_path / "module.py")
        names: dict = {}
        exec(compile(self.BEFORE, file, "exec"), names)
        more, box = names["more"], names["Box"]()
        assert (more(5), box.half()) == (7, 1.5)

        Functions(tmp_path).patch(file, self.BEFORE, self.BEFORE.replace(old, new))

        assert (more(5), box.half()) == expected

    @pytest.mark.parametrize(
        ("old", "new"),
        [("by=1", "by=2"), ("size = 3", "size = 4"), ("@twice\n", ""), ("self.size", "self.size")],
    )
    def test_what_runs_at_import_is_refused(self, old, new):
        with pytest.raises(NotPatchableError):
            changed("module.py", self.BEFORE, self.BEFORE.replace(old, new))

    def test_lines_that_only_moved_are_no_difference(self):
        moved = self.BEFORE.replace("import functools", "\n\n\nimport functools")
        [(place, _)] = changed("m.py", self.BEFORE, moved.replace("x + by", "x * by"))
        assert place[:2] == ("m.py", "more")


class TestForks:
    def test_the_exit_code_and_what_was_said_come_back(self):
        ended = in_fork(lambda say: say("tests/a.py::b") and 7, limit=60)
        assert (ended.code, ended.said) == (7, "tests/a.py::b")

    def test_a_fork_that_raises_is_no_success(self):
        assert in_fork(lambda _: 1 // 0, limit=60).code == 3

    def test_one_past_its_limit_is_ended_with_what_it_started(self, tmp_path):
        started = tmp_path / "pid"

        def hang(_):
            child = os.fork()
            if not child:
                time.sleep(600)
            started.write_text(str(child))
            time.sleep(600)

        assert in_fork(hang, limit=1).code is None
        until = time.monotonic() + 60
        while is_running(int(started.read_text())):
            assert time.monotonic() < until
            time.sleep(0.01)

    def test_a_mutated_file_is_put_back_with_its_time(self, tmp_path):
        file = tmp_path / "a.py"
        file.write_text("x = 1\n")
        os.utime(file, (1, 1))
        restore = mutate(file, "x = 2\n")
        assert file.read_text() == "x = 2\n"
        restore()
        assert (file.read_text(), file.stat().st_mtime) == ("x = 1\n", 1)


class TestLines:
    @pytest.mark.parametrize(
        ("before", "now", "expected"),
        [
            ("a\nb\nc\n", "a\nb\nc\n", {1: 1, 2: 2, 3: 3}),
            ("a\nb\nc\n", "new\na\nb\nc\n", {1: 2, 2: 3, 3: 4}),
            ("a\nb\nc\n", "a\nother\nc\n", {1: 1, 3: 3}),
        ],
    )
    def test_lines_are_followed_to_where_they_stand_now(self, before, now, expected):
        assert {old: _moved(before, now).get(old) for old in expected} == expected
        assert set(_moved(before, now)) - {4} == set(expected)

    def test_a_changed_test_file_is_measured_again_and_failed_tests_count_nothing(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "code.py").write_text("x\ny\n")
        test_file = tmp_path / "test_a.py"
        test_file.write_text("def test(): ...\n")
        lines = LinesOfTests(tmp_path / "notes")
        assert not lines.file(test_file).exists()
        ran = {"1": ["test_a.py::one", "test_a.py::two"], "2": ["test_a.py::two"]}
        lines.write(
            test_file,
            Measured(
                lines={"code.py": ran}, seconds={"test_a.py::two": 1.0}, failed=["test_a.py::one"]
            ),
        )
        (tmp_path / "code.py").write_text("new\nx\ny\n")
        lines.read([test_file])
        assert lines.of("code.py", [2]) == {"test_a.py::two"}
        assert lines.of("code.py", [1]) == set()
        assert lines.of_file("code.py") == {"test_a.py::two"}
        test_file.write_text("def test(): other\n")
        assert not lines.file(test_file).exists()


class TestReport:
    @staticmethod
    def verdict(line: int, killed: bool) -> Verdict:
        return Verdict("a.py", line, "core/AddNot", 0, killed, "t", 3, 0.1, "-if x\n+if not x")

    def test_verdicts_are_kept_in_a_file_and_known_again(self, tmp_path):
        Verdicts(tmp_path / "v.jsonl").add(self.verdict(1, True))
        again = Verdicts(tmp_path / "v.jsonl")
        assert again.all == [self.verdict(1, True)]
        assert again.has("a.py", "core/AddNot", 0)
        assert not again.has("a.py", "core/AddNot", 1)
        assert json.loads((tmp_path / "v.jsonl").read_text())["line"] == 1

    def test_survivors_stand_with_place_and_difference(self):
        text = table([self.verdict(1, True), self.verdict(7, False)], 40)
        assert "survived  a.py:7" in text
        assert "+if not x" in text
        assert "a.py:1 " not in text
        assert "50.0%" in text
        assert "of 40 mutants" in text

    @pytest.mark.parametrize(
        ("killed", "total", "expected"),
        # Newcombe 1998, table I: intervals of Wilson's score method without continuity.
        [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)),
         (1, 29, (0.0061, 0.1718))],
    )  # fmt: skip
    def test_the_interval_is_wilsons(self, killed, total, expected):
        assert interval(killed, total) == pytest.approx(expected, abs=1e-4)


class TestMutants:
    """What cosmic-ray is asked for."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("cosmic_ray", reason=NEEDS)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("def f():\n    model.eval()\n    return 1\n", "def f():\n    pass\n    return 1\n"),
            ("x = 0\nx += 1\n", "x = 0\npass\n"),
            ("self.a = 1\n", "pass\n"),
            ("a[0] = 1\n", "pass\n"),
            ("x = f()\n", None),
            ('"""A docstring."""\n', None),
            ("return f()\n", None),
            ("x: int = 1\n", None),
        ],
    )
    def test_statements_that_act_are_left_out_and_others_stay(self, before, after):
        from cosmic_ray.mutating import mutate_code

        from tests.mutation.operators import DeleteStatement

        assert mutate_code(before, DeleteStatement(), 0) == after

    @pytest.mark.parametrize(
        ("name", "is_made"),
        [
            ("core/ReplaceBinaryOperator_Add_Sub", True),
            ("core/ReplaceBinaryOperator_Add_Mul", False),
            ("core/ReplaceBinaryOperator_BitOr_Add", False),
            ("core/ReplaceComparisonOperator_Lt_LtE", True),
            ("core/AddNot", True),
            ("orthodiff/DeleteStatement", True),
        ],
    )
    def test_one_replacement_of_each_operator_is_made(self, name, is_made):
        from tests.mutation.operators import SELECTED

        assert bool(SELECTED.match(name)) is is_made

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("y = x + 1\n", 3),
            ("def f(x: Literal[1]) -> tuple[2]: ...\n", 0),
            ("def f(x=1): ...\n", 2),
            ("raise ValueError(x + 1)\n", 0),
            ("warnings.warn('a', stacklevel=2)\n", 1),
            ("y = zip(a, b, strict=True)\n", 0),
            ("y = zip(a, b, other=True)\n", 1),
            ("@functools.cache\ndef f(): ...\n", 0),
            ("@torch.no_grad()\ndef f(): ...\n", 1),
            ("LOG.info(1)\n", 0),
            ("x = 1  # pragma: no mutate, nobody sees it\n", 0),
            ("if TYPE_CHECKING:\n    import x\n", 0),
        ],
    )
    def test_types_messages_logs_and_guards_are_left_alone(self, text, count, tmp_path):
        from tests.mutation.mutants import mutants_of

        file = tmp_path / "a.py"
        file.write_text(text)
        mutants = mutants_of([file])
        assert len(mutants) == count
        assert len({mutant.code(text) for mutant in mutants} - {text, None}) == count

    def test_a_seed_chooses_the_same_mutants_again(self, tmp_path):
        from tests.mutation.mutants import mutants_of, sample

        file = tmp_path / "a.py"
        file.write_text("\n".join(f"x{n} = a + {n}" for n in range(50)))
        every = mutants_of([file])
        assert sample(every, 20, 1) == sample(every, 20, 1) != sample(every, 20, 2)
        assert len(set(sample(every, 20, 1))) == 20
        assert sample(every, None, 1) == sample(every, 1000, 1) == every
