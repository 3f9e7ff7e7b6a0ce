"""Captions vary by rule: trigger first, kept parts in place, dropped as often as asked."""

from collections import Counter

import pytest

from orthodiff.training.data.captions import CaptionRules

TAGS = "sks dog, red ball, green grass, sunny, closeup"


def test_without_rules_a_caption_stays() -> None:
    assert CaptionRules().variants("  any,thing , odd") == ("  any,thing , odd",)


def test_shuffled_parts_are_the_same_parts() -> None:
    variants = CaptionRules(shuffle=True, count=8).variants(TAGS)
    assert len(variants) > 4
    assert all(sorted(text.split(", ")) == sorted(TAGS.split(", ")) for text in variants)
    assert variants == CaptionRules(shuffle=True, count=8).variants(TAGS)
    assert variants != CaptionRules(shuffle=True, count=8, seed=1).variants(TAGS)


def test_kept_parts_stay_in_front() -> None:
    for text in CaptionRules(shuffle=True, keep=2, count=8).variants(TAGS):
        assert text.startswith("sks dog, red ball, ")
    assert CaptionRules(shuffle=True, keep=9, count=8).variants(TAGS) == (TAGS,)


def test_the_trigger_is_put_before_captions_without_it() -> None:
    rules = CaptionRules(trigger="sks dog")
    assert rules.variants("on grass") == ("sks dog, on grass",)
    assert rules.variants("a photo of sks dog") == ("a photo of sks dog",)
    assert rules.variants("") == ("sks dog",)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_captions_are_dropped_as_often_as_asked(share: float) -> None:
    rules = CaptionRules(dropout=share)
    seen = Counter(rules.choose(("a", "b"), "subject", position) for position in range(2000))
    assert seen[""] / 2000 == pytest.approx(share, abs=0.04)
    assert seen["a"] == pytest.approx(seen["b"], abs=150)
