"""Which of several runs did best: the rule, and that the sentence tells what it rests on."""

import pytest

from reroll.evaluation.distances import Interval
from reroll.evaluation.verdict import Standing, best_run, clearly_nearer, clearly_nearest


def run(title, flow=10.0, appearance=10.0, *, motion=1.0, detail=0.8, copies=0.0, multiple=None):
    """A run whose distances have intervals of a tenth either way."""
    distances = {
        space: Interval(median, 0.9 * median, 1.1 * median)
        for space, median in (("appearance", appearance), ("flow", flow))
    }
    return Standing(title, motion, detail, copies, distances, dict.fromkeys(distances, multiple))


def test_a_clear_winner_is_named_with_its_reasons():
    said = best_run([run("a", flow=20, detail=0.3), run("b", flow=10, copies=0.03), run("c", appearance=30)])
    assert said.startswith(
        "b did best: it is clearly nearer to the footage than a (flow 10 against 20, detail 0.80×"
    )
    assert "and c (appearance 10 against 30), and clearly farther in no respect" in said
    assert "it moves 1.00× as much as the footage, and 3% of its windows are copies." in said


def test_multiples_are_told_where_there_are_any():
    said = best_run([run("a", flow=20, multiple=3.0), run("b", multiple=1.5)])
    assert "flow 1.5× against 3.0× clean footage's distance" in said


def test_overlap_and_disagreement_have_no_winner():
    assert best_run([run("a", flow=10), run("b", flow=11)]).startswith("No run is clearly best: of a and b")
    parted = [run("a", flow=10, appearance=20), run("b", flow=20, appearance=10)]
    assert "No run is clearly best" in best_run(parted)
    sharper = [run("a", flow=10, detail=0.2), run("b", flow=20, detail=0.9)]
    assert "No run is clearly best" in best_run(sharper)
    assert best_run([run("a", detail=0.2), run("b", detail=0.9)]).startswith("b did best")


def test_a_run_that_copies_is_nearest_but_not_best():
    said = best_run([run("a", flow=5, copies=0.6), run("b", flow=10), run("c", flow=20)])
    assert said.startswith("a lies nearest, but 60% of its windows are copies; b did best")
    assert "than c (flow 10 against 20)" in said
    alone = best_run([run("a", flow=5, copies=0.6), run("b", flow=10, copies=0.9)])
    assert alone.startswith("a lies nearest, but 60% of its windows are copies; no run is clearly best;")
    assert "b does not count: 90% of its windows are copies" in alone
    hidden = best_run([run("a", copies=0.6), run("b")])
    assert hidden.startswith("b did best, as the only run that counts")
    assert "a does not count: 60% of its windows are copies" in hidden


@pytest.mark.parametrize("motion", [0.1, 2.5])
def test_a_run_that_stands_still_or_jitters_does_not_count(motion):
    runs = [run("a", flow=1, appearance=1, motion=motion, copies=None), run("b"), run("c", flow=20)]
    said = best_run(runs)
    assert said.startswith("b did best")
    assert said.endswith(f"a does not count: it moves {motion:.2f}× as much as the footage.")
    assert clearly_nearest(runs, "flow") is None
    assert best_run([runs[0], run("d", motion=0.2)]).startswith("No run is clearly best; a does not count")


def test_copies_that_could_not_be_measured_are_said():
    assert "how much it copies could not be measured" in best_run([run("a", copies=None), run("b", flow=20)])


def test_nothing_to_compare_is_said():
    assert best_run([run("a")]).startswith("No other run was measured")
    bare = Standing("b", 1.0, 0.1, None, {}, {})
    assert best_run([bare, bare]).startswith("The distances could not be measured")


def test_bold_is_for_an_interval_that_clears_every_other():
    near, middle, far = run("a", flow=10), run("b", flow=12), run("c", flow=30)
    assert clearly_nearest([far, near], "flow") is near
    assert clearly_nearest([far, near, middle], "flow") is None
    assert clearly_nearest([near], "flow") is None
    assert clearly_nearer(near, far) == ["flow"]
    assert clearly_nearer(far, near) == []
