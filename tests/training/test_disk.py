"""A full disk: waited for a few times, then said."""

import pytest

from reroll.errors import SpaceError
from reroll.training import disk
from reroll.training.disk import patiently, require_space


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(disk, "WAITS_SECONDS", (0.01, 0.01, 0.01))


class Full:
    """A disk that has room the time after `tries`."""

    def __init__(self, tries):
        self.left, self.tried = tries, 0

    def __call__(self):
        self.tried += 1
        if self.tried <= self.left:
            raise SpaceError("no room; make some.")
        return "written"


def test_what_could_not_be_written_is_tried_again():
    said = []
    assert patiently(full := Full(3), said.append, lambda: False) == "written"
    assert full.tried == 4
    assert said == ["no room; trying again in 0.01 s."] * 3


def test_after_the_last_wait_it_is_given_up():
    with pytest.raises(SpaceError, match="no room"):
        patiently(full := Full(9), lambda _: None, lambda: False)
    assert full.tried == 4


def test_who_wants_to_stop_does_not_wait(monkeypatch):
    monkeypatch.setattr(disk, "WAITS_SECONDS", (60.0,))
    with pytest.raises(SpaceError, match="no room"):
        patiently(full := Full(9), lambda _: None, lambda: True)
    assert full.tried == 1
    stops = iter([False, False, True])
    assert patiently(Full(1), lambda _: None, lambda: next(stops)) == "written"


def test_other_errors_are_not_waited_for():
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0, lambda _: None, lambda: False)


def test_too_little_room_is_said_with_both_figures(tmp_path):
    require_space(tmp_path, 1, "a byte")
    with pytest.raises(SpaceError, match=rf"a lot needs {1 << 60} bytes and \d+ are free"):
        require_space(tmp_path, 1 << 60, "a lot")
