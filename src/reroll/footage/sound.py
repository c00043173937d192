"""A take's sound, for outputs in which its frames are kept.

In: a file. Out: samples, float32 `C N` in [-1, 1], stereo at `RATE`, from the time of the first frame of its video.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream

from reroll.footage.container import open_container, packets_of

RATE = 48_000  # samples a second
CHANNELS = 2
MOST_SILENCE_SECONDS = 600.0
"""Before a sound that begins later than its video; more is taken for a fault of the timestamps."""


def local_sound(path: Path) -> Iterator[np.ndarray]:
    """`guard.read_sound` in this process: the first sound of a file in pieces; what cannot be decoded is left out. It
    begins with the video: what comes before that is cut off, what begins later begins after silence."""
    with open_container(path) as container:
        stream: AudioStream = container.streams.audio[0]
        video = container.streams.video[0]
        begin = float((video.start_time or 0) * (video.time_base or 0))
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        ahead: int | None = None  # samples to be cut off (negative: of silence to be put before)
        for packet in packets_of(container, stream):
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError, ValueError):
                continue
            for frame in frames:
                if ahead is None:
                    ahead = round((begin - float(frame.time or 0.0)) * RATE)
                    if ahead < -MOST_SILENCE_SECONDS * RATE:
                        ahead = 0
                    while ahead < 0:
                        yield np.zeros((CHANNELS, min(-ahead, RATE)), np.float32)
                        ahead = min(0, ahead + RATE)
                for piece in resampler.resample(frame):
                    samples = piece.to_ndarray()
                    if len(samples[0, ahead:]):
                        yield samples[:, ahead:]
                    ahead = max(0, ahead - samples.shape[1])
