"""The best checkpoint follows the stated rule, among those that are still there."""

from orthodiff.training.checkpoints.manager import choose_best


def score(
    step: int, *, loss=None, subject=None, prompt=None, scorer="", loss_of="held-out"
) -> dict:
    return {
        "step": step,
        "loss": loss,
        "loss_of": loss_of if loss is not None else "",
        "subject_similarity": subject,
        "prompt_similarity": prompt,
        "scorer": scorer,
    }


def test_similarities_decide_by_their_product() -> None:
    scores = [
        score(0, subject=0.5, prompt=0.40, scorer="a"),
        score(100, subject=0.8, prompt=0.30, scorer="a"),
        score(200, subject=0.9, prompt=0.25, scorer="a"),
    ]
    best = choose_best(scores, {100, 200})
    assert best
    assert best.step == 100
    assert "0.800" in best.reason
    assert choose_best(scores, {200}).step == 200
    assert choose_best(scores, {300}) is None


def test_the_loss_decides_where_there_is_no_scorer() -> None:
    scores = [score(1, loss=0.5), score(2, loss=0.3), score(3, loss=0.3), score(4, loss=0.4)]
    best = choose_best(scores, {1, 2, 3, 4})
    assert best
    assert (best.step, "lowest loss on held-out" in best.reason) == (2, True)


def test_what_was_measured_otherwise_is_not_compared() -> None:
    scores = [
        score(1, loss=0.1, loss_of="training pictures"),
        score(2, loss=0.9),
        score(3, loss=0.8),
    ]
    assert choose_best(scores, {1, 2, 3}).step == 3


def test_scores_of_other_prompts_are_not_compared() -> None:
    scores = [
        {**score(1, subject=0.9, prompt=0.9, scorer="a"), "measured_on": "a dog"},
        {**score(2, subject=0.2, prompt=0.3, scorer="a"), "measured_on": "a mug"},
        {**score(3, subject=0.3, prompt=0.3, scorer="a"), "measured_on": "a mug"},
    ]
    assert choose_best(scores, {1, 2, 3}).step == 3


def test_two_negative_cosines_do_not_make_a_good_one() -> None:
    scores = [
        score(1, subject=-0.9, prompt=-0.9, scorer="a"),
        score(2, subject=0.1, prompt=0.1, scorer="a"),
    ]
    assert choose_best(scores, {1, 2}).step == 2
