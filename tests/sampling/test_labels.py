"""What is written after `--label`, and what holds when."""

import pytest
import torch

from reroll.errors import UsageError
from reroll.sampling.labels import Labels, weights

KNOWN = ["run", "walk", "a:b", "x,y"]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (None, ((0.0, ()),)),
        ("walk", ((0.0, ((1, 1.0),)),)),
        ("a:b", ((0.0, ((2, 1.0),)),)),
        ("x,y", ((0.0, ((3, 1.0),)),)),
        ("walk:0.5,run:0.5", ((0.0, ((0, 0.5), (1, 0.5))),)),
        ("walk, run", ((0.0, ((0, 0.5), (1, 0.5))),)),
        ("walk:3,run:1", ((0.0, ((0, 0.25), (1, 0.75))),)),
        ("a:b:3,run:1", ((0.0, ((0, 0.25), (2, 0.75))),)),
        ("walk@0,run@3s", ((0.0, ((1, 1.0),)), (3.0, ((0, 1.0),)))),
        ("run@2.5,walk@1", ((0.0, ((1, 1.0),)), (2.5, ((0, 1.0),)))),
        ("walk:1+run:3@0,run@3", ((0.0, ((0, 0.75), (1, 0.25))), (3.0, ((0, 1.0),)))),
    ],
)
def test_labels_are_read(text, changes):
    labels = Labels.parse(text, KNOWN)
    assert labels.changes == changes
    assert labels.text == text


@pytest.mark.parametrize(
    "text", ["fly", "walk:0.5,fly:0.5", "walk:-1", "walk:much", "walk@,run@3", "walk@-1", "walk@x", ""]
)
def test_what_makes_no_sense_is_one_line_that_names_it(text):
    with pytest.raises(UsageError, match="--label") as caught:
        Labels.parse(text, KNOWN)
    assert "\n" not in str(caught.value)


def test_a_run_without_labels_says_so():
    with pytest.raises(UsageError, match="no labelled subfolders"):
        Labels.parse("walk", [])


def test_what_holds_when():
    labels = Labels.parse("walk@0,run@3s,walk@5", KNOWN)
    assert [labels.at(seconds)[0][0] for seconds in (0, 2.9, 3, 4.9, 5, 600)] == [1, 1, 0, 0, 1, 1]
    assert labels.next_change(0) == 3
    assert labels.next_change(3) == 5
    assert labels.next_change(5) == float("inf")
    assert labels.held(4).at(0) == labels.at(4)


def test_shares_of_no_label_and_of_each():
    assert torch.equal(weights((), 3), torch.tensor([1.0, 0, 0, 0]))
    assert torch.equal(weights(((0, 0.25), (2, 0.75)), 3), torch.tensor([0, 0.25, 0, 0.75]))
