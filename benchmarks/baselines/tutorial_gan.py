"""The tutorial's GAN, repaired: a DCGAN of single frames in Keras, whose video is a walk in the noise.

In: clips `T H W 3` uint8. They are resized to 64 × 64 by OpenCV and scaled to [-1, 1]; samples are resized back to
H × W. A generator (Radford et al. 2016, without its batch normalisation, as in the tutorial) makes one frame of 100
numbers, a discriminator says whether a frame is real. They know nothing of time. A video is what the generator makes of
a smooth path through the noise, at the pace at which its frames change as much as the footage's.

The published program could not train: it gave the generator images where noise belongs, loaded MNIST in place of the
video, labelled real and generated images alike, took a cross-entropy between images, and made one step. Its networks
are kept layer by layer; rate, loss and walk are ours.

TensorFlow is imported by the functions that use it: its import is part of the training's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import Baseline, Frames
from benchmarks.baselines.resizing import resized

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow import keras

Floats = NDArray[np.float32]

SIDE, NOISE, BATCH, SLOPE = 64, 100, 32, 0.2
RATE, BETA_1 = 4e-4, 0.5
"""Twice DCGAN's rate: after as many steps frames are clearer. At 5e-4 without momentum they are striped."""
REACH = 4
"""Points of a path on each side that a place on it is made from."""
PACES = 1e-3, 4.0
"""Points a frame: at the second, neighbouring frames have nothing in common."""
PAIRS, HALVINGS = 32, 10
CALIBRATION_SECONDS, CALIBRATION_SHARE = 5.0, 0.1


def generator(noise: int) -> keras.Model:
    """Noise `B noise` → frames `B 64 64 3` in (-1, 1)."""
    from tensorflow.keras import Input, Sequential, layers

    return Sequential(
        [
            Input((noise,)),
            layers.Dense(8 * 8 * 256, activation="relu"),
            layers.Reshape((8, 8, 256)),
            layers.Conv2DTranspose(128, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=SLOPE),
            layers.Conv2DTranspose(64, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=SLOPE),
            layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh"),
        ]
    )


def halvings(*channels: int) -> list[keras.layers.Layer]:
    """A convolution to each number of channels, each halving the picture's sides."""
    from tensorflow.keras import layers

    return [
        layer
        for count in channels
        for layer in (
            layers.Conv2D(count, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=SLOPE),
        )
    ]


def discriminator() -> keras.Model:
    """Frames `B 64 64 3` → logits `B 1`, above 0: real."""
    from tensorflow.keras import Input, Sequential, layers

    return Sequential(
        [
            Input((SIDE, SIDE, 3)),
            *halvings(64, 128),
            layers.Flatten(),
            layers.Dense(256),
            layers.LeakyReLU(negative_slope=SLOPE),
            layers.Dense(1),
        ]
    )


def training_step(generate: keras.Model, judge: keras.Model) -> Callable[[Floats], Any]:
    """One step of both networks on a batch of frames `B 64 64 3`: non-saturating cross-entropy of logits (Goodfellow et
    al. 2014)."""
    import tensorflow as tf

    cross_entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    rates = [tf.keras.optimizers.Adam(RATE, beta_1=BETA_1) for _ in range(2)]

    @tf.function
    def step(real: tf.Tensor) -> None:
        with tf.GradientTape(persistent=True) as tape:
            made = generate(tf.random.normal((BATCH, NOISE)))
            on_real, on_made = judge(real), judge(made)
            deceived = cross_entropy(tf.ones_like(on_made), on_made)
            told = cross_entropy(tf.ones_like(on_real), on_real)
            told += cross_entropy(tf.zeros_like(on_made), on_made)
        for model, loss, rate in ((generate, deceived, rates[0]), (judge, told, rates[1])):
            weights = model.trainable_variables
            rate.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    return step


def train(clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> Baseline:
    """Learn single frames for so many seconds; `fps` is not needed, a walk is at the footage's own pace."""
    began = time.monotonic()
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    generate = generator(NOISE)
    step = training_step(generate, discriminator())
    return walker(step, lambda noise: frames_of(generate(noise)), NOISE, clips, began, seconds, seed)


def walker(
    step: Callable[[Floats], Any],
    draw: Callable[[Floats], Frames],
    size: int,
    clips: Sequence[Frames],
    began: float,
    seconds: float,
    seed: int,
    encode: Callable[[Frames], Floats] | None = None,
) -> Walker:
    """Make steps on the clips' frames until the seconds since `began` are nearly over, then find the pace of a walk
    among `size` numbers."""
    batches, (height, width) = frame_batches(clips, seed), clips[0].shape[1:3]
    steps = run(lambda: step(next(batches)), began, seconds)
    found = Walker(draw, size, height, width, steps, encode=encode)
    found.calibrate(clips, began + seconds)
    return found


def frame_batches(clips: Sequence[Frames], seed: int) -> Iterator[Floats]:
    """Batches `B 64 64 3` in [-1, 1] of random frames of all clips, without end."""
    frames = np.concatenate([resized(clip, SIDE, SIDE) for clip in clips])
    draw = np.random.default_rng(seed)
    while True:
        yield scaled(frames[draw.integers(len(frames), size=BATCH)])


def run(step: Callable[[], Any], began: float, seconds: float) -> int:
    """Make steps until what is left of the seconds is for calibration; how many."""
    deadline = began + seconds - min(CALIBRATION_SECONDS, CALIBRATION_SHARE * seconds)
    steps = 0
    while time.monotonic() < deadline:
        step()
        steps += 1
    return steps


def scaled(frames: Frames) -> Floats:
    """uint8 → [-1, 1]."""
    return frames.astype(np.float32) / 127.5 - 1


def frames_of(output: Any) -> Frames:  # noqa: ANN401
    """A network's output in (-1, 1) → uint8."""
    return np.rint(np.asarray(output) * 127.5 + 127.5).astype(np.uint8)


def path(points: Floats, places: NDArray[np.float64]) -> Floats:
    """Noise `T Z` at places of the closed path through points `P Z`; place 1.5 is half way from point 1 to 2.

    Gaussian weights of the points around, squares summing to 1: smooth, and as normal at each place as the points are.
    Straight lines between points would pass through what the generator has not seen: noise that is too small.
    """
    around = np.floor(places).astype(int)[:, None] + np.arange(1 - REACH, 1 + REACH)
    weights = np.exp(-0.5 * (places[:, None] - around) ** 2)
    weights /= np.sqrt((weights**2).sum(1, keepdims=True))
    return np.einsum("tk,tkz->tz", weights, points[around % len(points)]).astype(np.float32)


@dataclass
class Walker:
    """Frames made of a walk in the noise. `draw`: noise `N Z` → frames `N 64 64 3`; `encode`: such frames → noise."""

    draw: Callable[[Floats], Frames]
    size: int
    height: int
    width: int
    steps: int
    pace: float = 0.05
    """Points of the path a frame."""
    encode: Callable[[Frames], Floats] | None = None

    def sample(self, frames: int, seed: int) -> Frames:
        """A walk that does not come back."""
        count = int(frames * self.pace) + 2 * REACH + 1
        points = np.random.default_rng(seed).standard_normal((count, self.size))
        return self._along(points, REACH + self.pace * np.arange(frames))

    def loop(self, frames: int, seed: int) -> Frames:
        """A walk around a closed path. Where so few frames have no time for a whole one, around a smaller one."""
        count = max(2 * REACH, round(frames * self.pace))
        share = min(1.0, frames * self.pace / count)
        centre, *points = np.random.default_rng(seed).standard_normal((1 + count, self.size))
        near = np.sqrt(1 - share**2) * centre + share * np.stack(points)
        return self._along(near, count / frames * np.arange(frames))

    def rebuild(self, clip: Frames) -> Frames | None:
        """Frame by frame through encoder and generator, where there is an encoder."""
        if self.encode is None:
            return None
        pieces = [clip[at : at + BATCH] for at in range(0, len(clip), BATCH)]
        return np.concatenate([self._finish(self.encode(resized(piece, SIDE, SIDE))) for piece in pieces])

    def calibrate(self, clips: Sequence[Frames], deadline: float) -> None:
        """Find the pace at which frames change as much as the clips' by bisection, as far as the time allows."""
        wanted = np.mean(np.concatenate([_changes(clip[:-1], clip[1:]) for clip in clips]))
        points = np.random.default_rng(0).standard_normal((2 * REACH * PAIRS, self.size))
        places = 2.0 * REACH * np.arange(PAIRS)
        before, (slow, fast) = self._along(points, places), PACES
        for _ in range(HALVINGS):
            if time.monotonic() >= deadline:
                return
            self.pace = float(np.sqrt(slow * fast))
            found = _changes(before, self._along(points, places + self.pace)).mean()
            slow, fast = (self.pace, fast) if found < wanted else (slow, self.pace)

    def _along(self, points: Floats, places: NDArray[np.float64]) -> Frames:
        pieces = [places[at : at + BATCH] for at in range(0, len(places), BATCH)]
        return np.concatenate([self._finish(path(points, piece)) for piece in pieces])

    def _finish(self, noise: Floats) -> Frames:
        return resized(self.draw(noise), self.height, self.width)


def _changes(before: Frames, after: Frames) -> Floats:
    """Mean absolute change of each frame, in grey levels."""
    return np.abs(after.astype(np.float32) - before).mean((1, 2, 3))
