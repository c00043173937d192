"""Rectified flow on latents with a noise level per token (Liu et al. 2023; diffusion forcing, Chen et al. 2024).

    x_level = (1 - level)·latents + level·source           level 0: given, level 1: noise
    velocity = source - latents                             what the MotionPrior predicts

The source is noise; where more is known, what is known and as much noise as it may be wrong by (`source_of`).

Training meets the masks that sampling will use: all free, a given beginning or end, both ends, every k-th frame,
a rectangle in space, and independent levels per frame.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from reroll.parts.motion_prior import (
    PATCH,
    MotionPrior,
    expand_levels,
    from_tokens,
    surroundings,
    to_tokens,
)

FREE_KEYFRAMES, FREE_FINE = 0.85, 0.15
"""Share of the windows that are all free: of those of keyframes, of finer ones."""
INDEPENDENT, BETWEEN = 0.15, 0.65
"""Shares of the rest: a level for each frame; frames between keyframes, of the finer windows."""
FREE_LEVEL, GIVEN_LEVEL = (2.2, 2.0), (0.6, 1.3)
"""Centre and spread of the logit of the noise level in training, where nothing is given and where something is."""
FREE_RANGE, GIVEN_RANGE = (6.0, -3.0), (4.0, -3.0)
"""Logits of the noise levels that sampling passes in even steps, likewise."""


def free_levels(latents: Tensor) -> Tensor:
    """The levels `B T h/2 w/2` of windows `B T Z h w` in which nothing is given: 1."""
    batch, frames, _, height, width = latents.shape
    return torch.ones(batch, frames, height // PATCH, width // PATCH, device=latents.device)


class Source(NamedTuple):
    """What the flow leads to the latents from, and what it is around, `B T Z h w` (0: nothing is known); its spread at
    each token and whether that is between given frames, `B T h/2 w/2`."""

    latents: Tensor
    middle: Tensor
    spread: Tensor
    between: Tensor

    def seen(self, x: Tensor) -> Tensor:
        """`x_level` as the MotionPrior is shown it: between given frames, how far it is from their line in units of the
        spread. Else it would look for something small beside the line, and find it late."""
        off = (x - self.middle) / expand_levels(self.spread, x)
        return torch.where(expand_levels(self.between, x), off, x)


def source_of(
    noise: Tensor,
    known: Tensor,
    levels: Tensor,
    times: Tensor,
    spread: Tensor,
    content: Tensor | None = None,
    told: Tensor | None = None,
) -> Source:
    """Noise `B T Z h w`, but with spread s where more is known: √(1 - s²) · that + s · noise.

    Between two given frames of `known` (level 0) that is the line from one to the other, with the first `spread` and
    the second for each unit that they differ by there; where nothing is given, of windows that are `told` (`B`; None:
    all), it is their `content` (`B Z h w`), with the third (data-dependent couplings, Albergo et al. 2024, "Stochastic
    interpolants with data-dependent couplings"). What a prior does not know comes out as noise of its own in each
    frame, as wide as its source: made from noise alone, frames tremble.
    """
    near, tokens = surroundings(levels, times), to_tokens(known)
    still, moving, around = spread.unbind()
    wide = torch.where(near.between, torch.hypot(still, moving * near.change(tokens)).clamp(max=1.0), 1.0)
    middle = near.blend(tokens)
    if content is not None:
        about = near.nothing if told is None else near.nothing & told[:, None, None, None]
        wide = torch.where(about, around, wide)
        shown = to_tokens(content[:, None]).expand_as(middle)
        middle = torch.where(about[..., None], shown, middle)
    middle = from_tokens(middle * (1 - wide.square()).sqrt()[..., None])
    return Source(middle + expand_levels(wide, noise) * noise, middle, wide, near.between)


def interpolate(latents: Tensor, source: Tensor, levels: Tensor) -> Tensor:
    """`x_level` of the module's text; latents and source `B T Z h w`, levels `B T h/2 w/2`."""
    level = expand_levels(levels, latents)
    return (1 - level) * latents + level * source


def flow_loss(predicted: Tensor, latents: Tensor, source: Source, levels: Tensor) -> Tensor:
    """Mean squared error of the velocity that is `predicted` in units of the source's spread, over the free tokens
    (level above 0), divided by that spread.

    Plainly, frames from a narrow source would hardly count; divided by the square, keyframes are learnt too slowly
    beside in-betweens (docs/log.md).
    """
    free = (expand_levels(levels, latents) > 0).float().expand_as(latents)
    spread = expand_levels(source.spread, latents)
    error = (predicted * spread - (source.latents - latents)).square() / spread
    return (error * free).sum() / free.sum().clamp(min=1)


def draw_levels(shape: tuple[int, int, int, int], spacings: Sequence[int], generator: Generator) -> Tensor:
    """Levels `B T h/2 w/2` on the CPU: a task per window, a noise level per window or per frame.

    `spacings` (one per window) say how many of its steps there are between keyframes. Windows of keyframes (1) are
    mostly all free or go on from a given beginning; finer ones mostly lie between given keyframes, as in sampling.

    Levels are logit-normal (Esser et al. 2024), shifted far towards noise where nothing is given: a window has so
    many alike dimensions that which clip it is, and where in it, is decided while nearly all is noise. Seldom
    trained there, a prior gives every seed the same clip.
    """
    batch, frames, rows, columns = shape
    normal = torch.randn(batch, 1, 1, 1, generator=generator)
    each = torch.sigmoid(
        torch.randn(batch, frames, 1, 1, generator=generator) * GIVEN_LEVEL[1] + GIVEN_LEVEL[0]
    )
    task = torch.rand(batch, 2, generator=generator)
    free = task[:, 0] < torch.tensor([FREE_FINE if spacing > 1 else FREE_KEYFRAMES for spacing in spacings])
    centre, spread = (
        torch.where(free, of_free, of_given)[:, None, None, None]
        for of_free, of_given in zip(FREE_LEVEL, GIVEN_LEVEL, strict=True)
    )
    levels = torch.sigmoid(centre + spread * normal).expand(shape).clone()
    for row, spacing in enumerate(spacings):
        if free[row]:
            continue
        if task[row, 1] < INDEPENDENT:
            levels[row] = each[row]
        elif spacing > 1 and task[row, 1] < INDEPENDENT + BETWEEN:
            levels[row][between_mask(frames, spacing, generator)] = 0.0
        else:
            levels[row][given_mask(frames, rows, columns, generator)] = 0.0
    return levels


def between_mask(frames: int, spacing: int, generator: Generator) -> Tensor:
    """Given frames, `T` bool, not all: up to three, then every `spacing`-th; half the time what comes after the last of
    these too. One time in four any spacing, for loops and for rates that are not the footage's."""

    past, after = _below(4, generator), _below(2, generator)
    spacing = spacing if _below(4, generator) else 2 + _below(7, generator)
    mask = torch.zeros(frames, dtype=torch.bool)
    mask[:past] = True
    mask[past::spacing] = True
    if after and bool(mask.any()):
        mask[int(mask.nonzero().max()) :] = True
    if bool(mask.all()):
        mask[frames // 2] = False
    return mask


def given_mask(frames: int, rows: int, columns: int, generator: Generator) -> Tensor:
    """Which tokens are given, `T h/2 w/2` bool: at least one token is free."""

    def below(limit: int) -> int:
        return _below(max(1, limit), generator)

    mask = torch.zeros(frames, rows, columns, dtype=torch.bool)
    kind, most = below(6), max(1, frames - 1)
    if kind <= 1 or frames < 3:
        mask[: (1 + below(most)) if frames > 1 else 0] = True
    elif kind == 2:  # both ends: what bridges two windows
        free = 1 + below(min(frames - 2, frames // 2))
        first = 1 + below(frames - free - 1)
        mask[:first] = mask[first + free :] = True
    elif kind == 3:
        mask[frames - 1 - below(most - 1) :] = True
    elif kind == 4:
        step = 2 + below(max(1, frames // 2))
        mask[below(step) :: step] = True
        mask[0] = mask[-1] = mask[0] | bool(below(2))
    else:
        top, left = below(rows), below(columns)
        mask[:] = True
        mask[:, top : top + 1 + below(rows - top), left : left + 1 + below(columns - left)] = False
    if bool(mask.all()):
        mask[frames // 2] = False
    return mask


def _below(limit: int, generator: Generator) -> int:
    """A random number from 0 to `limit - 1`."""
    return int(torch.randint(limit, (1,), generator=generator))


def schedule(steps: int, logits: tuple[float, float] = FREE_RANGE) -> Tensor:
    """`steps + 1` noise levels from 1 to 0, evenly spaced in their logit between the ends of `logits`.

    A window of d dimensions that are alike shows which clip it is at a level whose logit is about log √d, 5 for
    16 frames of 8 × 12 × 16; levels evenly spaced pass that in a single step, and every seed gives the same clip.
    """
    between = torch.linspace(*logits, steps + 1)[1:-1].sigmoid()
    return torch.cat([torch.ones(1), between, torch.zeros(1)])


def guided(
    prior: MotionPrior,
    x: Tensor,
    levels: Tensor,
    times: Tensor,
    labels: Tensor,
    guidance: float,
    content: Tensor | None = None,
    early: MotionPrior | None = None,
    sharpness: float = 0.0,
) -> Tensor:
    """The velocity; with `guidance` other than 1 that of label and content is pushed away from that of neither, with
    `sharpness` above 0 from that of the `early` prior as well (autoguidance, Karras et al. 2024).

    The early prior blurs what the trained one blurs, and more: what the two have in common is a mistake rather than
    the footage.
    """
    velocity: Tensor = prior(x, levels, times, labels, content)
    led = velocity
    none = without_labels(labels)
    if guidance != 1.0 and not (content is None and bool((labels == none).all())):
        led = led + (guidance - 1) * (velocity - prior(x, levels, times, none, None))
    if early is not None and sharpness > 0:
        led = led + sharpness * (velocity - early(x, levels, times, labels, content))
    return led


def without_labels(labels: Tensor) -> Tensor:
    """No label for as many windows: of labels `B`, or of shares `B L+1`."""
    none = torch.full_like(labels, -1)
    if labels.is_floating_point():
        none = torch.zeros_like(labels)
        none[:, 0] = 1.0
    return none


def denoise(
    prior: MotionPrior,
    source: Source,
    times: Tensor,
    labels: Tensor,
    *,
    steps: int,
    known: Tensor | None = None,
    highest: Tensor | None = None,
    guidance: float = 1.0,
    content: Tensor | None = None,
    logits: tuple[float, float] = FREE_RANGE,
    early: MotionPrior | None = None,
    sharpness: float = 0.0,
    gradient_in_last_step: bool = False,
) -> Tensor:
    """The source → latents `B T Z h w`, by Euler steps from level 1 to 0.

    `highest` (`B T h/2 w/2`) is the noise level at which a token begins, on the way from `known` (`B T Z h w`) to
    the source: 1 is free, 0 is given, one between is changed as little as the level is low (SDEdit, Meng et al. 2022).
    `content` (`B Z h w`) is what the windows show. With `guidance` above 1 the velocity is pushed away from that of
    neither label nor content (classifier-free guidance, Ho & Salimans 2022), with `sharpness` above 0 away from that of
    the `early` prior. `known` and `highest` go together.
    """
    top = 1.0
    if highest is None or known is None:
        known = source.latents
        highest = free_levels(known)
    else:
        top = float(highest.max())
    x = interpolate(known, source.latents, highest)
    levels = schedule(steps, logits).tolist()
    for i, (now, after) in enumerate(pairwise(levels)):
        if after >= top:
            continue  # nothing has begun yet
        if gradient_in_last_step and i == steps - 1:
            torch.clear_autocast_cache()  # weights cast while gradients were off would get none
        here, there = highest.clamp(max=now), highest.clamp(max=after)
        with torch.set_grad_enabled(gradient_in_last_step and i == steps - 1):
            velocity = guided(prior, source.seen(x), here, times, labels, guidance, content, early, sharpness)
            x = x + expand_levels((there - here) * source.spread, x) * velocity
    return x
