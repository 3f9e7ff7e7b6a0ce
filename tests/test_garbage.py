"""Garbage is left alone while a program starts, and looked for again after."""

import gc

import pytest

from orthodiff.cli.gc import leave, uncollected


def test_nothing_is_collected_within_and_again_after() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="broken"), uncollected():
        raise ValueError("broken")
    assert gc.isenabled()


def test_what_is_there_for_good_is_set_aside() -> None:
    with uncollected(for_good=True):
        pass
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000


def test_whoever_had_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_program_leaves_with_its_code() -> None:
    with pytest.raises(SystemExit) as left:
        leave(3)
    assert left.value.code == 3
