"""Sampler: a trained model → frames, in constant memory, one sample at a time.

Coarse to fine. *Keyframes* 6 to 8 a second are denoised window by window, each a new beginning that is entered where
it is most like the one before; then the same network in-betweens them to the frame rate asked for; then the Decoder
runs over chunks with its halo. What goes on from given frames is denoised with the last keyframes of each window
given to the next. A *loop* is a closed ring of keyframes: every denoising step covers it with overlapping windows, cut
at a place that moves from step to step, their velocities averaged. `gan` needs none of this: its frames are made from
noise that is known at every time.

A sample depends on its seed and settings only: each has its own generator and is computed with a batch of one.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from reroll.config import SampleOptions
from reroll.objectives.flow import FREE_RANGE, GIVEN_RANGE, denoise, guided, schedule
from reroll.parts.decoder import HALO
from reroll.parts.model import VideoModel
from reroll.parts.motion_prior import PATCH
from reroll.parts.noise import motion_noise
from reroll.recipes.gan import one_step
from reroll.training.engine import Engine

GIVEN_FINE = 3
GIVEN_KEYS, MOST_BRIDGING = 4, 6
"""Keyframes given before those that bridge two windows, and how many these are at most."""
CHUNK_FRAMES = 16


@dataclass(frozen=True)
class SampleSettings:
    """What one sample is: `frames` at `fps`, of `seed`; the record an output carries."""

    frames: int
    fps: float
    seed: int = 0
    label: int = -1
    denoise_steps: int = SampleOptions.denoise_steps
    temperature: float = SampleOptions.temperature
    guidance: float = SampleOptions.guidance
    loop: bool = False


class Sampler:
    """Samples of one model. `key_gap_seconds` is the largest time step the MotionPrior was trained on."""

    def __init__(
        self, model: VideoModel, engine: Engine, *, key_gap_seconds: float, window_frames: int = 16
    ) -> None:
        self.model, self.engine = model.eval().requires_grad_(False), engine
        self.key_gap_seconds, self.window_frames = key_gap_seconds, window_frames

    def frames(self, settings: SampleSettings, given: Tensor | None = None) -> Iterator[np.ndarray]:
        """Chunks of uint8 `T H W 3`, `settings.frames` in all.

        `given` are whitened latents `1 T Z h w` of real frames at `settings.fps` that come directly before the
        first frame (and are not returned): the clip goes on from them. Frame rates below the keyframes' are made at
        a multiple, which the MotionPrior was trained at, and thinned out (not where frames are given).
        """
        thin = max(1, math.ceil(1 / (self.key_gap_seconds * settings.fps) - 1e-6))
        if thin > 1 and given is None and self.model.encoder is not None:
            dense = replace(settings, frames=settings.frames * thin, fps=settings.fps * thin)
            at = 0
            for chunk in self.frames(dense):
                if len(kept := chunk[-at % thin :: thin]):
                    yield kept
                at += len(chunk)
            return
        with torch.no_grad():
            if self.model.encoder is None:
                latents = self._from_noise(settings)
            elif settings.loop:
                latents = self._looped(settings)
            else:
                latents = self._open(settings, given)
            if settings.loop:
                yield from self._decode_ring(latents, settings.frames)
            else:
                yield from self._decode(latents, given)

    def encode(self, frames: np.ndarray) -> Tensor:
        """uint8 `T H W 3` → whitened latents `1 T Z h w`."""
        with torch.no_grad(), self.engine.autocast():
            encoded = [
                self.model.encode(self.engine.frames(frames[None, at : at + CHUNK_FRAMES]))
                for at in range(0, len(frames), CHUNK_FRAMES)
            ]
        return torch.cat(encoded, 1)

    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """Whitened latents `1 T Z h w` → uint8 chunks `T H W 3`."""
        with torch.no_grad():
            yield from self._decode(iter([latents]), None)

    # Latents of a new clip

    def _open(self, settings: SampleSettings, given: Tensor | None) -> Iterator[Tensor]:
        """Fine latents of an open clip, segment by segment."""
        spacing = self._spacing(settings.fps)
        generator = _generator(settings.seed)
        past = given[:, -GIVEN_FINE - 1 : -1] if given is not None else self._no_frames()
        keys = self._keys(settings, spacing, generator, given)
        left = settings.frames
        stride = max(1, (self.window_frames - 1 - GIVEN_FINE) // spacing)
        start = None if given is None else next(keys)
        if start is None:
            start = next(keys)
            yield start
            left -= 1
        while left > 0:
            ends = [next(keys) for _ in range(stride)]
            fine = self._between(past, [start, *ends], spacing, settings, generator)[:, :left]
            yield fine
            left -= fine.shape[1]
            past, start = torch.cat([past, start, fine], 1)[:, -GIVEN_FINE - 1 : -1], ends[-1]

    def _keys(
        self, settings: SampleSettings, spacing: int, generator: Generator, given: Tensor | None
    ) -> Iterator[Tensor]:
        """Keyframes `1 1 Z h w` without end, `spacing` frames apart; given ones: only the last comes out."""
        times = torch.arange(self.window_frames) * (spacing / settings.fps)
        if given is None:
            yield from self._joined(times, settings, generator)
            return
        known = given[:, (given.shape[1] - 1) % spacing :: spacing][:, -self.window_frames // 2 :]
        yield known[:, -1:]
        while True:
            window = self._denoise(
                known, self.window_frames - known.shape[1], times, settings, generator, None
            )
            yield from window[:, known.shape[1] :].split(1, 1)
            known = window[:, -(self.window_frames // 2) :]

    def _joined(self, times: Tensor, settings: SampleSettings, generator: Generator) -> Iterator[Tensor]:
        """Keyframes of a new clip: windows of one content, each left near its end for where the next one, near its
        beginning, is most like it (video textures, Schödl et al. 2000), with keyframes between to bridge what differs.

        Windows that went on from each other would come to the last poses of the footage, after which no window of
        training begins, and stay there (docs/log.md).
        """
        content = self.model.content
        assert content is not None
        code = content.draw(settings.label, settings.temperature, generator)
        window, at = self._beginning(times, settings, generator, code), 0
        if code is None:
            code = content.encode(window)
        ends = self.window_frames // 4
        while True:
            yield from window[:, at:-ends].split(1, 1)
            near = content.draw_near(code, settings.label, settings.temperature, generator)
            following = self._beginning(times, settings, generator, near)
            leave, enter, between = _join(window[0], following[0], ends)
            yield from window[:, -ends : leave + 1].split(1, 1)
            before = window[:, leave + 1 - GIVEN_KEYS : leave + 1]
            after = following[:, enter:][:, : self.window_frames - before.shape[1] - between]
            gap = torch.zeros(1, between, *self.model.latent_shape, device=window.device)
            given = torch.ones(before.shape[1] + between + after.shape[1], dtype=torch.bool)
            given[before.shape[1] : before.shape[1] + between] = False
            bridge = self._fill(
                torch.cat([before, gap, after], 1), given, times[: len(given)], settings, generator,
                max(1, settings.denoise_steps // 2),
            )  # fmt: skip
            yield from bridge[:, ~given].split(1, 1)
            window, at = following, enter

    def _beginning(
        self, times: Tensor, settings: SampleSettings, generator: Generator, code: Tensor | None
    ) -> Tensor:
        """A window of keyframes of which nothing is known but its content's code."""
        assert self.model.content is not None
        content = None if code is None else self.model.content(code)
        return self._denoise(self._no_frames(), self.window_frames, times, settings, generator, content)

    def _between(
        self, past: Tensor, keys: list[Tensor], spacing: int, settings: SampleSettings, generator: Generator,
        future: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The frames after `keys[0]` up to and with `keys[-1]`, given up to three fine frames before and after."""
        if spacing == 1:
            return torch.cat(keys[1:], 1)
        future = self._no_frames() if future is None else future
        before, last = past.shape[1], past.shape[1] + (len(keys) - 1) * spacing
        if before + 1 + spacing > self.window_frames and spacing % 2 == 0:
            return self._by_halves(past, keys, spacing // 2, settings, generator, future)
        known = torch.zeros(1, last + 1 + future.shape[1], *self.model.latent_shape, device=past.device)
        given = torch.zeros(known.shape[1], dtype=torch.bool)
        known[:, :before], given[:before] = past, True
        known[:, before : last + 1 : spacing], given[before : last + 1 : spacing] = torch.cat(keys, 1), True
        known[:, last + 1 :], given[last + 1 :] = future, True
        times = torch.arange(len(given)) / settings.fps
        window = self._fill(known, given, times, settings, generator, max(1, settings.denoise_steps // 2))
        return window[:, before + 1 : last + 1]

    def _by_halves(
        self, past: Tensor, keys: list[Tensor], half: int, settings: SampleSettings, generator: Generator,
        future: Tensor,
    ) -> Tensor:  # fmt: skip
        """What `_between` returns where two keyframes and what is between them are more than a window: the frame half
        way is made first, as training makes one between keyframes."""
        start, end = keys
        slow = replace(settings, fps=settings.fps / half)
        middle = self._between(self._no_frames(), [start, end], 2, slow, generator)[:, :1]
        first = self._between(past, [start, middle], half, settings, generator)
        past = torch.cat([past, start, first], 1)[:, -past.shape[1] - 1 : -1]
        return torch.cat([first, self._between(past, [middle, end], half, settings, generator, future)], 1)

    def _denoise(
        self, known: Tensor, new: int, times: Tensor, settings: SampleSettings, generator: Generator,
        content: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """`known` frames followed by `new` ones."""
        count = known.shape[1] + new
        padded = torch.zeros(1, count, *self.model.latent_shape, device=known.device)
        padded[:, : known.shape[1]] = known
        given = torch.arange(count) < known.shape[1]
        return self._fill(padded, given, times, settings, generator, settings.denoise_steps, content)

    def _fill(
        self,
        known: Tensor,
        given: Tensor,
        times: Tensor,
        settings: SampleSettings,
        generator: Generator,
        steps: int,
        content: Tensor | None = None,
    ) -> Tensor:
        """Denoise the frames of `1 T Z h w` that are not `given` (`T` bool)."""
        rows, columns = (side // PATCH for side in self.model.latent_shape[1:])
        noise = self.engine.noise(known.shape, generator) * settings.temperature
        with self.engine.autocast():
            return denoise(
                self.model.motion_prior, noise, self._to(times.float()[None]),
                self._to(torch.tensor([settings.label])), steps=steps,
                given=self._to(given)[None, :, None, None].expand(1, -1, rows, columns), known=known,
                guidance=settings.guidance, content=content, logits=GIVEN_RANGE if bool(given.any()) else FREE_RANGE,
            )  # fmt: skip

    # Latents of a loop

    def _looped(self, settings: SampleSettings) -> Iterator[Tensor]:
        """Fine latents of a ring of `settings.frames` frames."""
        generator = _generator(settings.seed)
        count = max(2, math.ceil(settings.frames / settings.fps / self.key_gap_seconds - 1e-3))
        places = [round(i * settings.frames / count) for i in range(count)]
        keys = self._ring(count, settings, generator)
        past = head = self._no_frames()
        for index, (here, there) in enumerate(pairwise([*places, settings.frames])):
            pair = [keys[:, index : index + 1], keys[:, (index + 1) % count : (index + 1) % count + 1]]
            if there == here:
                continue
            future = head[:, 1:] if index == count - 1 else None
            fine = self._between(past, pair, there - here, settings, generator, future)
            piece = torch.cat([pair[0], fine[:, :-1]], 1)
            yield piece
            past = torch.cat([past, piece], 1)[:, -GIVEN_FINE:]
            head = torch.cat([head, piece], 1)[:, : GIVEN_FINE + 1]

    def _ring(self, count: int, settings: SampleSettings, generator: Generator) -> Tensor:
        """A closed ring of keyframes `1 count Z h w`."""
        length = min(self.window_frames, count, count // 2 + 2)
        gap = settings.frames / settings.fps / count
        times = self._to((torch.arange(length) * gap).float()[None])
        ring = self.engine.noise((1, count, *self.model.latent_shape), generator) * settings.temperature
        content = self._content(settings, generator)
        rows, columns = (side // PATCH for side in self.model.latent_shape[1:])
        weights = self._to(torch.hann_window(length + 2, periodic=False)[1:-1])[None, :, None, None, None]
        label = self._to(torch.tensor([settings.label]))
        for now, after in pairwise(schedule(2 * settings.denoise_steps).tolist()):
            offset = int(torch.randint(count, (1,), generator=generator))
            total, weight = torch.zeros_like(ring), torch.zeros(1, count, 1, 1, 1, device=ring.device)
            levels = torch.full((1, length, rows, columns), now, device=ring.device)
            for start in range(0, count, max(1, length // 2)):
                place = (torch.arange(length) + start + offset) % count
                with self.engine.autocast():
                    velocity = guided(
                        self.model.motion_prior,
                        ring[:, place],
                        levels,
                        times,
                        label,
                        settings.guidance,
                        content,
                    )
                total[:, place] += velocity * weights
                weight[:, place] += weights
            ring = ring + (after - now) * total / weight
        return ring

    # `gan`

    def _from_noise(self, settings: SampleSettings) -> Iterator[Tensor]:
        """Latents of a clip, or of a loop, frame by frame from noise known at every time."""
        period = settings.frames / settings.fps if settings.loop else None
        label = self._to(torch.tensor([settings.label]))
        for start in range(0, settings.frames, CHUNK_FRAMES):
            times = torch.arange(start, min(start + CHUNK_FRAMES, settings.frames)) / settings.fps
            noise = motion_noise(times, self.model.latent_shape, _generator(settings.seed), period)
            with self.engine.autocast():
                yield one_step(self.model, self._to(noise)[None] * settings.temperature, label)

    # Frames

    def _decode(self, latents: Iterator[Tensor], before: Tensor | None) -> Iterator[np.ndarray]:
        """Latents in any pieces → frames: each chunk is decoded with its neighbours and cut."""
        held = before[:, -HALO:] if before is not None else self._no_frames()
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
        head = self._no_frames()

        def wrapped() -> Iterator[Tensor]:
            nonlocal head
            for piece in latents:
                head = torch.cat([head, piece], 1)[:, : 2 * HALO]
                yield piece
            yield head[:, torch.arange(2 * HALO) % count]

        at = 0
        for chunk in self._decode(wrapped(), None):
            if len(kept := chunk[max(0, HALO - at) : max(0, count + HALO - at)]):
                yield kept
            at += len(chunk)

    def _pixels(self, latents: Tensor) -> np.ndarray:
        """Whitened latents `1 T Z h w` → uint8 `T H W 3`."""
        with self.engine.autocast():
            frames = self.model.decode(latents)[0]
        return self.engine.pixels(frames)

    def _content(self, settings: SampleSettings, generator: Generator) -> Tensor | None:
        """What a new clip shows, `1 Z h w`; None, which the MotionPrior knows, for a label too rare to have one."""
        content = self.model.content
        assert content is not None
        code = content.draw(settings.label, settings.temperature, generator)
        return None if code is None else content(code)

    def _spacing(self, fps: float) -> int:
        """Frames from one keyframe to the next; a number that can be halved until a window holds them."""
        spacing, halvings = max(1, int(self.key_gap_seconds * fps + 1e-6)), 0
        while GIVEN_FINE + 1 + (spacing >> halvings) > self.window_frames:
            halvings += 1
        return spacing >> halvings << halvings

    def _no_frames(self) -> Tensor:
        return torch.zeros(1, 0, *self.model.latent_shape, device=self.engine.device)

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.engine.device)


def _join(window: Tensor, following: Tensor, ends: int) -> tuple[int, int, int]:
    """Where to leave a window of keyframes `T Z h w`, among its last `ends`, and where to enter the following one,
    among its first after the very first: where latents and their change differ least; and how many keyframes bridge
    the rest at the windows' own pace."""
    one, other = window.flatten(1), following.flatten(1)
    leave = torch.arange(len(one) - ends, len(one), device=one.device)
    enter = torch.arange(1, ends + 1, device=one.device)
    apart = torch.cdist(one[leave], other[enter]).square()
    turn = torch.cdist(one[leave] - one[leave - 1], other[enter] - other[enter - 1]).square()
    best = int((apart + turn).argmin())
    row, column = divmod(best, len(enter))
    pace = torch.cat([one.diff(dim=0), other.diff(dim=0)]).norm(dim=1).median()
    steps = float(apart[row, column].sqrt() / pace.clamp(min=1e-6))
    between = min(MOST_BRIDGING, max(1, round(min(steps, 1e3)) - 1))
    return int(leave[row]), int(enter[column]), between


def _generator(seed: int) -> Generator:
    """A sample's own generator."""
    digest = hashlib.blake2b(f"sample/{seed}".encode(), digest_size=7).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))
