"""Sampler: a trained model → frames, in constant memory (but for the keyframes of a loop), one sample at a time.

Coarse to fine. *Keyframes* 6 to 8 a second are denoised window by window, each a new beginning that is entered where
it is most like the one before, over a bridge of morphed frames; then the same network in-betweens them to the frame
rate asked for; then the Decoder runs over chunks with its halo. What goes on from given frames begins with a window
whose first they are, at most half. A *loop* is a clip that is left where it is most like its own beginning, and bridged
to that. `gan` needs none of this: its frames are made from noise that is known at every time.

A sample depends on its seed and settings only: each has its own generator and is computed by itself.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby, islice, pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from reroll.objectives.flow import FREE_RANGE, GIVEN_RANGE, denoise, source_of
from reroll.parts.model import VideoModel
from reroll.parts.motion_prior import PATCH
from reroll.sampling.bridging import Keyframe, closing, join, keyframes, leaps
from reroll.sampling.coder import Coder
from reroll.sampling.from_noise import latents_from_noise
from reroll.sampling.settings import SampleSettings, along, generator_of
from reroll.training.engine import Engine

GIVEN_FINE = 3
NEAREST = 24, 72, 256
"""What may follow a window: a new one of a content among so many of the nearest."""


class Sampler(Coder):
    """Samples of one model. `key_gap_seconds` is the largest time step the MotionPrior was trained on."""

    def __init__(
        self, model: VideoModel, engine: Engine, *, key_gap_seconds: float, window_frames: int = 16
    ) -> None:
        super().__init__(model, engine)
        self.key_gap_seconds, self.window_frames = key_gap_seconds, window_frames

    @torch.no_grad()
    def frames(self, settings: SampleSettings, given: Tensor | None = None) -> Iterator[np.ndarray]:
        """Chunks of uint8 `T H W 3`, `settings.frames` in all.

        `given` are whitened latents `1 T Z h w` of real frames at `settings.fps` that come directly before the
        first frame (and are not returned): the clip goes on from them. Frame rates below the keyframes' are made at
        a multiple, which the MotionPrior was trained at, and thinned out; of frames given at such a rate only the last
        is gone on from.
        """
        thin = self.thinning(settings.fps)
        if thin > 1 and self.model.encoder is not None:
            dense = replace(settings, frames=settings.frames * thin, fps=settings.fps * thin)
            at = 0 if given is None else 1  # a given frame is the first of the dense ones
            for chunk in self.frames(dense, None if given is None else given[:, -1:]):
                if len(kept := chunk[-at % thin :: thin]):
                    yield kept
                at += len(chunk)
            return
        if self.model.encoder is None:
            latents = latents_from_noise(self, settings)
        elif settings.loop:
            latents = self._looped(settings)
        else:
            latents = self._open(settings, given)
        if settings.loop:
            yield from self._decode_ring(latents, settings.frames)
        else:
            yield from self.decode_pieces(latents, given)

    # Latents of a new clip

    def _open(self, settings: SampleSettings, given: Tensor | None) -> Iterator[Tensor]:
        """Fine latents of an open clip, segment by segment."""
        spacing = self.spacing(settings.fps)
        generator = generator_of(settings.seed)
        past = given[:, -GIVEN_FINE - 1 : -1] if given is not None else self.no_frames()
        keys = self._keys(settings, spacing, generator, given)
        left = settings.frames
        stride = self.gaps_at_once(spacing)
        start = None if given is None else next(keys)
        if start is None:
            start = next(keys)
            yield start.latents
            left -= 1
        while left > 0:
            ends = [next(keys) for _ in range(stride)]
            now = settings.at((settings.frames - left) / settings.fps)
            fine, past = self.between(past, [start, *ends], spacing, now, generator)
            yield fine[:, :left]
            left -= fine.shape[1]
            start = ends[-1]

    def _keys(
        self, settings: SampleSettings, spacing: int, generator: Generator, given: Tensor | None
    ) -> Iterator[Keyframe]:
        """Keyframes without end, `spacing` frames apart; given ones: only the last comes out."""
        times = torch.arange(self.window_frames) * (spacing / settings.fps)
        known = self.no_frames()
        if given is not None:
            known = given[:, (given.shape[1] - 1) % spacing :: spacing][:, -self.window_frames // 2 :]
            yield Keyframe(known[:, -1:], bridging=False, real=True)
        yield from self.joined(times, settings, generator, known)

    def joined(
        self, times: Tensor, settings: SampleSettings, generator: Generator, known: Tensor
    ) -> Iterator[Keyframe]:
        """Keyframes of a new clip, or those that go on from `known`: windows of one content, each left near its end for
        where the next one, near its beginning, is most like it (video textures, Schödl et al. 2000), with keyframes
        between to bridge what differs; where that is too much, a window goes on from the one before.

        Windows that always went on from each other would come to the last poses of the footage, after which no window
        of training begins, and stay there (docs/log.md).
        """
        content = self.model.content
        assert content is not None
        whole, step = settings, float(times[1])
        since, number, walk = 0.0, 0, None  # of the labels that hold, of the next keyframe
        settings = whole.at(since)
        if at := known.shape[1]:
            code = None
            window = self._denoise(known, self.window_frames - at, times, settings, generator, None)
        else:
            code = content.draw(settings.seed, settings.labels.at(0.0), settings.temperature, generator)
            walk = self._walk(whole)
            window = self._beginning(times, settings, generator, walk(0.0) if walk else code)
        if code is None:
            code = content.encode(window)
        half, first = self.window_frames // 2, self.window_frames // 4
        while True:
            earliest, change = max(half, at + first), whole.labels.next_change(since)
            due = at + (change / step - number)  # the window's keyframe from which on other labels hold
            if changing := due < self.window_frames - 1:
                earliest, since = max(at + 1, math.ceil(due)), change
                settings = whole.at(since)
            yield from keyframes(window[:, at:earliest])
            if walk is None:
                beginnings = self.windows_near(code, times, settings, generator)
            else:
                there = walk((number + earliest - at) * step)
                beginnings = self._beginning(times, settings, generator, there.expand(len(NEAREST), -1))
            leading = changing or walk is not None  # to what this window does not show
            found = join(window[0], beginnings, at, earliest, first, however_far=leading)
            if found is None:
                yield from keyframes(window[:, earliest:])
                number += self.window_frames - at
                new = self.window_frames - half
                window, at = self._denoise(window[:, -half:], new, times, settings, generator, None), half
                continue
            yield from keyframes(window[:, earliest : found.leave + 1])
            following, enter = beginnings[found.following :][:1], found.enter
            yield from self.bridge(window[:, found.leave, None], following[:, enter, None], found.between)
            number += found.leave + 1 - at + found.between
            window, at = following, enter
            if changing:
                code = content.encode(window)

    def _walk(self, settings: SampleSettings) -> Callable[[float], Tensor] | None:
        """The code `1 k` at each time of a clip that goes through several seeds; None if it does not."""
        if not settings.through or self.model.content is None:
            return None
        labels = settings.labels.at(0.0)
        codes = [
            self.model.content.draw(seed, labels, settings.temperature, generator_of(seed))
            for seed in settings.through
        ]
        drawn = [code for code in codes if code is not None]
        if not drawn:
            return None

        def at(seconds: float) -> Tensor:
            first, share = along(seconds * settings.fps / settings.frames, len(drawn))
            return drawn[first].lerp(drawn[min(first + 1, len(drawn) - 1)], share)

        return at

    def windows_near(
        self, code: Tensor, times: Tensor, settings: SampleSettings, generator: Generator
    ) -> Tensor:
        """New windows of keyframes `N T Z h w`, of contents near a code `1 k`."""
        content = self.model.content
        assert content is not None
        near = [
            content.draw_near(code, settings.labels.at(0.0), settings.temperature, generator, nearest)
            for nearest in NEAREST
        ]
        return self._beginning(times, settings, generator, torch.cat(near))

    def _beginning(
        self, times: Tensor, settings: SampleSettings, generator: Generator, codes: Tensor | None
    ) -> Tensor:
        """A window of keyframes for each of the contents' codes, of which nothing else is known (None: not even that,
        one window)."""
        assert self.model.content is not None
        content = None if codes is None else self.model.content(codes)
        nothing = self.no_frames(1 if codes is None else len(codes))
        return self._denoise(nothing, self.window_frames, times, settings, generator, content)

    def bridge(self, end: Tensor, beginning: Tensor, between: int) -> Iterator[Keyframe]:
        """`between` keyframes from the last of one window to the first of the next, both `1 1 Z h w`."""
        return keyframes(self._morphed(end, beginning, between + 1), bridging=True)

    def between(
        self, past: Tensor, keys: list[Keyframe], spacing: int, settings: SampleSettings, generator: Generator,
        after: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The frames after `keys[0]` up to and with `keys[-1]`, given up to three fine frames before and any `after`;
        and those that are given to the frames after them: none from a bridge, which does not move like the footage.

        Where real footage begins or ends the MotionPrior may know of no way to or from its frame, and leap: there, too,
        is a bridge.
        """
        fine = []
        for bridging, run in groupby(pairwise(keys), lambda pair: pair[0].bridging or pair[1].bridging):
            gaps = list(run)
            if bridging:
                fine += [self._bridged(one, other, spacing) for one, other in gaps]
                past = self.no_frames()
                continue
            start, ends = gaps[0][0].latents, [other.latents for _, other in gaps]
            following = after if after is not None and gaps[-1][1] is keys[-1] else self.no_frames()
            made = self._in_between(past, [start, *ends], spacing, settings, generator, following)
            past = torch.cat([past, start, made], 1)[:, -GIVEN_FINE - 1 : -1]
            for (one, other), piece in zip(gaps, made.split(spacing, 1), strict=True):
                leaping = (one.real or other.real) and leaps(one.latents, piece)
                fine.append(self._bridged(one, other, spacing) if leaping else piece)
                past = self.no_frames() if leaping else past
        return torch.cat(fine, 1), past

    def _bridged(self, one: Keyframe, other: Keyframe, spacing: int) -> Tensor:
        """The frames after one keyframe up to and with another, morphed."""
        return torch.cat([self._morphed(one.latents, other.latents, spacing), other.latents], 1)

    def _in_between(
        self, past: Tensor, keys: list[Tensor], spacing: int, settings: SampleSettings, generator: Generator,
        after: Tensor,
    ) -> Tensor:  # fmt: skip
        """The frames after `keys[0]` up to and with `keys[-1]`, denoised."""
        if spacing == 1:
            return torch.cat(keys[1:], 1)
        if len(keys) == 2 and past.shape[1] + 1 + spacing > self.window_frames:
            return self._by_halves(past, keys, spacing, settings, generator)
        before, new = past.shape[1] + 1, spacing * (len(keys) - 1)
        after = after[:, : self.window_frames - before - new]
        known = torch.cat([past, keys[0], *(key.repeat(1, spacing, 1, 1, 1) for key in keys[1:]), after], 1)
        free = ([1.0] * (spacing - 1) + [0.0]) * (len(keys) - 1)
        highest = torch.tensor([0.0] * before + free + [0.0] * after.shape[1])
        times = torch.arange(len(highest)) / settings.fps
        window = self.fill(known, highest, times, settings, generator, settings.between_steps)
        return window[:, before : before + new]

    def _by_halves(
        self, past: Tensor, keys: list[Tensor], spacing: int, settings: SampleSettings, generator: Generator
    ) -> Tensor:
        """What `_in_between` returns where two keyframes and what is between them are more than a window: the frame
        half way is made first, as training makes one between keyframes."""
        start, end = keys
        half, none = spacing // 2, self.no_frames()
        slow = replace(settings, fps=2 * settings.fps / spacing)
        middle = self._in_between(none, [start, end], 2, slow, generator, none)[:, :1]
        first = self._in_between(past, [start, middle], half, settings, generator, none)
        past = torch.cat([past, start, first], 1)[:, -GIVEN_FINE - 1 : -1]
        second = self._in_between(past, [middle, end], spacing - half, settings, generator, none)
        return torch.cat([first, second], 1)

    def _denoise(
        self, known: Tensor, new: int, times: Tensor, settings: SampleSettings, generator: Generator,
        content: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """`known` frames followed by `new` ones."""
        count = known.shape[1] + new
        padded = torch.zeros(len(known), count, *self.latent_shape, device=known.device)
        padded[:, : known.shape[1]] = known
        highest = (torch.arange(count) >= known.shape[1]).float()
        return self.fill(padded, highest, times, settings, generator, settings.denoise_steps, content)

    def fill(
        self,
        known: Tensor,
        highest: Tensor,
        times: Tensor,
        settings: SampleSettings,
        generator: Generator,
        steps: int,
        content: Tensor | None = None,
    ) -> Tensor:
        """Denoise the frames of `B T Z h w`, each from its `highest` level (0: given, 1: nothing is known): `T`, or of
        each token, `T h/2 w/2`."""
        rows, columns = (side // PATCH for side in self.latent_shape[1:])
        if highest.dim() == 1:
            highest = highest[:, None, None].expand(-1, rows, columns)
        noise = self.engine.noise(known.shape, generator) * settings.temperature
        levels = self._to(highest).expand(len(known), -1, rows, columns)
        seconds = self._to(times.float()).expand(len(known), -1)
        if content is not None:
            content = content.expand(len(known), -1, -1, -1)
        source = source_of(noise, known, levels, seconds, self.model.source_spread, content)
        with self.engine.autocast():
            return denoise(
                self.model.motion_prior, source, seconds,
                self.heard(settings.labels.at(0.0)).expand(len(known), -1), steps=steps, known=known, highest=levels,
                guidance=settings.guidance, content=content, early=self.model.early_prior,
                sharpness=settings.sharpness,
                logits=FREE_RANGE if bool((highest == 1).all()) else GIVEN_RANGE,
            )  # fmt: skip

    # Latents of a loop

    def _looped(self, settings: SampleSettings) -> Iterator[Tensor]:
        """Fine latents of a ring of `settings.frames` frames."""
        generator = generator_of(settings.seed)
        count = max(4, math.ceil(settings.frames / settings.fps / self.key_gap_seconds - 1e-3))
        places = [round(i * settings.frames / count) for i in range(count)]
        keys = self._ring(count, settings, generator)
        past = self.no_frames()
        for index, (here, there) in enumerate(pairwise([*places, settings.frames])):
            pair = [keys[index], keys[(index + 1) % count]]
            if there == here:
                continue
            fine, past = self.between(past, pair, there - here, settings, generator)
            yield torch.cat([pair[0].latents, fine[:, :-1]], 1)

    def _ring(self, count: int, settings: SampleSettings, generator: Generator) -> list[Keyframe]:
        """A closed ring of `count` keyframes: those of a new clip, left where they are most like those at its
        beginning, and a bridge from there to the beginning."""
        times = torch.arange(self.window_frames) * (settings.frames / settings.fps / count)
        keys = self.joined(times, settings, generator, self.no_frames())
        clip = list(islice(keys, count + self.window_frames - 1))
        start, between = closing(clip, count)
        clip = clip[start : start + count - between]
        return [*clip, *self.bridge(clip[-1].latents, clip[0].latents, between)]

    def thinning(self, fps: float) -> int:
        """How many times a rate is that frames have to be made at: 1 from the keyframes' rate on."""
        return max(1, math.ceil(1 / (self.key_gap_seconds * fps) - 1e-6))

    def gaps_at_once(self, spacing: int) -> int:
        """How many gaps between keyframes a window has room for, beside the fine frames given before them."""
        return max(1, (self.window_frames - 1 - GIVEN_FINE) // spacing)

    def spacing(self, fps: float) -> int:
        """Frames from one keyframe to the next."""
        return max(1, int(self.key_gap_seconds * fps + 1e-6))
