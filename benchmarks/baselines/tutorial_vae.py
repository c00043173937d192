"""The tutorial's generator as the decoder of a frame VAE in Keras; its video is a walk through the prior.

In: clips `T H W 3` uint8, resized to 64 × 64 by OpenCV and scaled to [-1, 1]. An encoder, the generator's mirror, gives
each frame's posterior over `LATENT` numbers; both are trained by the evidence lower bound with the prior N(0, I)
(Kingma & Welling 2014), its KL weighted by `BETA` (Higgins et al. 2017) against the squared error summed over a frame.
They know nothing of time. A video is what the decoder makes of a smooth path through draws of the prior, at the pace at
which its frames change as much as the footage's (`tutorial_gan.path`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.baselines import Baseline, Frames
from benchmarks.baselines.tutorial_gan import SIDE, Floats, frames_of, generator, halvings, scaled, walker

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow import keras

LATENT, RATE, BETA = 64, 1e-3, 16.0
"""With a smaller BETA frames are rebuilt a little better, but more draws of the prior fall between what was learnt: of
running water, with 4, some are noise."""
WIDEST, STEEPEST = 2.0, 1e3
"""Limits of the log-variance and of the gradient's norm: without them a training on objects ended in black."""


def encoder() -> keras.Model:
    """Frames `B 64 64 3` → mean and log-variance side by side, `B 2·LATENT`."""
    from tensorflow.keras import Input, Sequential, layers

    return Sequential(
        [
            Input((SIDE, SIDE, 3)),
            *halvings(64, 128, 256),
            layers.Flatten(),
            layers.Dense(2 * LATENT),
        ]
    )


def training_step(encode: keras.Model, decode: keras.Model) -> Callable[[Floats], Any]:
    """One step of both networks on a batch of frames `B 64 64 3`."""
    import tensorflow as tf

    rate = tf.keras.optimizers.Adam(RATE, global_clipnorm=STEEPEST)
    weights = encode.trainable_variables + decode.trainable_variables

    @tf.function
    def step(real: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(encode(real), 2, axis=1)
            log_variance = tf.clip_by_value(log_variance, -12.0, WIDEST)
            code = mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean))
            error = tf.reduce_sum((decode(code) - real) ** 2, (1, 2, 3))
            kl = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_variance) - 1 - log_variance, 1)
            loss = tf.reduce_mean(error + BETA * kl)
        rate.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    return step


def train(clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> Baseline:
    """Learn single frames for so many seconds; `fps` is not needed, a walk is at the footage's own pace."""
    began = time.monotonic()
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    encode, decode = encoder(), generator(LATENT)
    step = training_step(encode, decode)
    return walker(
        step, lambda code: frames_of(decode(code)), LATENT, clips, began, seconds, seed,
        encode=lambda frames: encode(scaled(frames)).numpy()[:, :LATENT],
    )  # fmt: skip
