"""Sampler: a trained model → frames, in constant memory (but for the keyframes of a loop), one sample at a time.

Coarse to fine. *Keyframes* 6 to 8 a second are denoised window by window, each a new beginning that is entered where
it is most like the one before, over a bridge of morphed frames; then the same network in-betweens them to the frame
rate asked for; then the Decoder runs over chunks with its halo. What goes on from given frames begins with a window
whose first they are, at most half. A *loop* is a clip that is left where it is most like its own beginning, and bridged
to that. `gan` needs none of this: its frames are made from noise that is known at every time.

A sample depends on its seed and settings only: each has its own generator and is computed by itself.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from reroll.config import SampleOptions
from reroll.objectives.flow import FREE_RANGE, GIVEN_RANGE, denoise
from reroll.parts.decoder import HALO
from reroll.parts.model import VideoModel
from reroll.parts.motion_prior import PATCH
from reroll.parts.noise import motion_noise
from reroll.recipes.gan import one_step
from reroll.sampling.bridging import Keyframe, closing, join, keyframes, leaps
from reroll.sampling.labels import Labels, Mixture, weights
from reroll.sampling.morph import morph
from reroll.training.engine import Engine

GIVEN_FINE = 3
NEAREST = 24, 72, 256
"""What may follow a window: a new one of a content among so many of the nearest."""
CHUNK_FRAMES = 16


@dataclass(frozen=True)
class SampleSettings:
    """What one sample is: `frames` at `fps`, of `seed`; the record an output carries."""

    frames: int
    fps: float
    seed: int = 0
    labels: Labels = Labels()  # noqa: RUF009 (frozen)
    denoise_steps: int = SampleOptions.denoise_steps
    temperature: float = SampleOptions.temperature
    guidance: float = SampleOptions.guidance
    sharpness: float = SampleOptions.sharpness
    loop: bool = False

    def at(self, seconds: float) -> "SampleSettings":
        """With the labels that hold at that time."""
        return self if len(self.labels.changes) == 1 else replace(self, labels=self.labels.held(seconds))


class Sampler:
    """Samples of one model. `key_gap_seconds` is the largest time step the MotionPrior was trained on."""

    def __init__(
        self, model: VideoModel, engine: Engine, *, key_gap_seconds: float, window_frames: int = 16
    ) -> None:
        self.model, self.engine = model.eval().requires_grad_(False), engine
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
            latents = self._from_noise(settings)
        elif settings.loop:
            latents = self._looped(settings)
        else:
            latents = self._open(settings, given)
        if settings.loop:
            yield from self._decode_ring(latents, settings.frames)
        else:
            yield from self.decode_pieces(latents, given)

    def encode(self, frames: np.ndarray) -> Tensor:
        """uint8 `T H W 3` → whitened latents `1 T Z h w`."""
        with torch.no_grad(), self.engine.autocast():
            encoded = [
                self.model.encode(self.engine.frames(frames[None, at : at + CHUNK_FRAMES]))
                for at in range(0, len(frames), CHUNK_FRAMES)
            ]
        return torch.cat(encoded, 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """Whitened latents `1 T Z h w` → uint8 chunks `T H W 3`."""
        yield from self.decode_pieces(iter([latents]), None)

    # Latents of a new clip

    def _open(self, settings: SampleSettings, given: Tensor | None) -> Iterator[Tensor]:
        """Fine latents of an open clip, segment by segment."""
        spacing = self.spacing(settings.fps)
        generator = generator_of(settings.seed)
        past = given[:, -GIVEN_FINE - 1 : -1] if given is not None else self.no_frames()
        keys = self._keys(settings, spacing, generator, given)
        left = settings.frames
        stride = max(1, (self.window_frames - 1 - GIVEN_FINE) // spacing)
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
        settings, number = whole.at(0.0), 0  # of the next keyframe
        if at := known.shape[1]:
            code = None
            window = self._denoise(known, self.window_frames - at, times, settings, generator, None)
        else:
            code = content.draw(settings.seed, settings.labels.at(0.0), settings.temperature, generator)
            window = self._beginning(times, settings, generator, code)
        if code is None:
            code = content.encode(window)
        half, first = self.window_frames // 2, self.window_frames // 4
        while True:
            earliest, change = max(half, at + first), whole.labels.next_change(number * step)
            due = at + (change / step - number)  # the window's keyframe from which on other labels hold
            if changing := due < self.window_frames - 1:
                earliest, settings = max(at + 1, math.ceil(due)), whole.at(change)
            yield from keyframes(window[:, at:earliest])
            beginnings = self.windows_near(code, times, settings, generator)
            found = join(window[0], beginnings, at, earliest, first)
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

    def _morphed(self, one: Tensor, other: Tensor, steps: int) -> Tensor:
        """What lies between latents `1 1 Z h w` in so many steps, `1 steps-1 Z h w`, their frames morphed.

        Denoised, it would follow one side for as long as it can and leap to the other, with ghosts (docs/log.md).
        """
        if steps == 1:
            return self.no_frames()
        with self.engine.autocast():
            first, last = self.engine.pixels(self.model.decode(torch.cat([one, other]))[:, 0])
        return self.encode(morph(first, last, steps))

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
        window = self.fill(known, highest, times, settings, generator, max(1, settings.denoise_steps // 2))
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
        padded = torch.zeros(len(known), count, *self.model.latent_shape, device=known.device)
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
        rows, columns = (side // PATCH for side in self.model.latent_shape[1:])
        if highest.dim() == 1:
            highest = highest[:, None, None].expand(-1, rows, columns)
        noise = self.engine.noise(known.shape, generator) * settings.temperature
        with self.engine.autocast():
            return denoise(
                self.model.motion_prior, noise, self._to(times.float()).expand(len(known), -1),
                self._heard(settings.labels.at(0.0)).expand(len(known), -1), steps=steps, known=known,
                highest=self._to(highest).expand(len(known), -1, rows, columns),
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

    # `gan`

    def _from_noise(self, settings: SampleSettings) -> Iterator[Tensor]:
        """Latents of a clip, or of a loop, frame by frame from noise known at every time."""
        period = settings.frames / settings.fps if settings.loop else None
        for start in range(0, settings.frames, CHUNK_FRAMES):
            times = torch.arange(start, min(start + CHUNK_FRAMES, settings.frames)) / settings.fps
            noise = motion_noise(times, self.model.latent_shape, generator_of(settings.seed), period)
            with self.engine.autocast():
                yield one_step(
                    self.model, self._to(noise)[None] * settings.temperature, self._faded(settings, times)
                )

    def _faded(self, settings: SampleSettings, times: Tensor) -> Tensor:
        """Shares of labels `1 T L+1` at times: each change fades in over a second around it."""
        shares = []
        for time in times.tolist():
            around = [
                self._heard(settings.labels.at(max(0.0, time + shift)))
                for shift in torch.linspace(-0.5, 0.5, 9).tolist()
            ]
            shares.append(torch.cat(around).mean(0))
        return torch.stack(shares)[None]

    def _heard(self, mixture: Mixture) -> Tensor:
        """Shares of labels `1 L+1`, as the MotionPrior is told them."""
        return self._to(weights(mixture, len(self.model.config.labels)))[None]

    # Frames

    def decode_pieces(self, latents: Iterator[Tensor], before: Tensor | None) -> Iterator[np.ndarray]:
        """Latents in any pieces → frames: each chunk is decoded with its neighbours and cut."""
        held = before[:, -HALO:] if before is not None else self.no_frames()
        skip = held.shape[1]
        for piece in latents:
            held = torch.cat([held, piece], 1)
            if held.shape[1] >= skip + HALO + CHUNK_FRAMES:
                ready = held.shape[1] - HALO
                yield self._pixels(held)[skip:ready]
                held, skip = held[:, ready - HALO :], HALO
        if held.shape[1] > skip:
            yield self._pixels(held)[skip:]

    def _decode_ring(self, latents: Iterator[Tensor], count: int) -> Iterator[np.ndarray]:
        """A closed ring of `count` latents in pieces → its frames, beginning after the first `HALO`, which come last:
        each is decoded among its neighbours, and the ring is never held as a whole."""
        head = self.no_frames()

        def wrapped() -> Iterator[Tensor]:
            nonlocal head
            for piece in latents:
                head = torch.cat([head, piece], 1)[:, : 2 * HALO]
                yield piece
            yield head[:, torch.arange(2 * HALO) % count]

        at = 0
        for chunk in self.decode_pieces(wrapped(), None):
            if len(kept := chunk[max(0, HALO - at) : max(0, count + HALO - at)]):
                yield kept
            at += len(chunk)

    def _pixels(self, latents: Tensor) -> np.ndarray:
        """Whitened latents `1 T Z h w` → uint8 `T H W 3`."""
        with self.engine.autocast():
            frames = self.model.decode(latents)[0]
        return self.engine.pixels(frames)

    def thinning(self, fps: float) -> int:
        """How many times a rate is that frames have to be made at: 1 from the keyframes' rate on."""
        return max(1, math.ceil(1 / (self.key_gap_seconds * fps) - 1e-6))

    def spacing(self, fps: float) -> int:
        """Frames from one keyframe to the next."""
        return max(1, int(self.key_gap_seconds * fps + 1e-6))

    def no_frames(self, batch: int = 1) -> Tensor:
        return torch.zeros(batch, 0, *self.model.latent_shape, device=self.engine.device)

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.engine.device)


def generator_of(seed: int) -> Generator:
    """A sample's own generator."""
    digest = hashlib.blake2b(f"sample/{seed}".encode(), digest_size=7).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))
