"""Where windows of keyframes are joined, on latents that are known."""

import pytest
import torch

from reroll.sampling.bridging import LEAST_BRIDGING, MOST_BRIDGING, closing, join, keyframes, leaps


def walk(steps, seed=0):
    """A random walk in latents `T 4 4 4`, every step about as long."""
    noise = torch.randn(steps, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    return noise.cumsum(0)


def test_the_following_window_is_entered_where_it_is_most_like():
    """Of three windows that run elsewhere the last is for two keyframes where the window is that is left."""
    window = walk(16)
    following = torch.stack([walk(16, seed) + 3 for seed in (1, 2, 3)])
    following[2] += window[15] - following[2, 3]
    following[2, 2] = window[14]
    found = join(window, following, 0, 8, 4)
    assert (found.following, found.leave, found.enter) == (2, 15, 3)
    assert found.between == LEAST_BRIDGING


def test_a_long_way_takes_more_keyframes():
    window = torch.arange(16.0)[:, None, None, None].expand(-1, 4, 4, 4)
    near, far, farther = window[None] + 10.0, window[None] + 20.0, window[None] + 25.0
    assert join(window, near, 0, 8, 4).between == LEAST_BRIDGING
    assert join(window, far, 0, 8, 4).between == 5, "six steps at the windows' own pace"
    assert join(window, farther, 0, 8, 4).between == MOST_BRIDGING
    assert join(window, window[None] + 100.0, 0, 8, 4) is None


def test_a_window_is_left_no_earlier_than_said_and_not_entered_at_its_very_first():
    window = walk(16)
    for earliest in (8, 12):
        found = join(window, window[None], 0, earliest, 4)
        assert found.leave >= earliest
        assert 1 <= found.enter <= 4


def returning():
    """A walk that is on its way to its fifth place again after some twenty keyframes, and nowhere else near one."""
    clip = walk(35).flatten(1)
    back = 2 * clip[4] - clip[5] - clip[20]
    clip += ((torch.arange(35) - 4) / 16).clamp(0, 1)[:, None] * back
    return clip.view(1, 35, 4, 4, 4)


def test_a_loop_is_left_where_it_is_most_like_its_beginning():
    start, between = closing(list(keyframes(returning())), 19)
    assert start == 4
    assert between <= 4


def test_a_loop_does_not_begin_on_a_bridge():
    clip = list(keyframes(returning()))
    clip[4] = clip[4]._replace(bridging=True)
    start, _ = closing(clip, 19)
    assert start != 4


@pytest.mark.parametrize(("count", "most"), [(9, 4), (20, MOST_BRIDGING)])
def test_where_all_is_far_the_longest_bridge_hurries_least(count, most):
    onwards = torch.arange(20.0)[None, :, None, None, None].expand(1, -1, 4, 4, 4)
    assert closing(list(keyframes(onwards)), count)[1] == most


def test_a_loop_is_cut_from_where_there_is_motion():
    """Twenty keyframes of a still, then five turns of a circle: all lead back to their beginning."""
    angle = torch.cat([torch.zeros(20), torch.arange(60) * (torch.pi / 6)])
    clip = torch.stack([angle.cos(), angle.sin()], -1).repeat(1, 32).view(1, 80, 4, 4, 4)
    start, _ = closing(list(keyframes(clip)), 12)
    assert start >= 18


def test_a_leap_is_told_from_a_way():
    start, end = torch.zeros(1, 1, 4, 4, 4), torch.full((1, 1, 4, 4, 4), 4.0)
    even = torch.cat([torch.full_like(start, step) for step in (1.0, 2.0, 3.0)] + [end], 1)
    assert not leaps(start, even)
    assert not leaps(start, even + 0.3 * torch.randn(even.shape, generator=torch.Generator().manual_seed(0)))
    for late in ((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), (2.0, -2.0, 1.0)):
        assert leaps(start, torch.cat([torch.full_like(start, step) for step in late] + [end], 1))
