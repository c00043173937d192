"""Where a run's samples lose the footage's detail and motion, stage by stage.

    python -m benchmarks.where RUN --windows 64

Each line has one thing less in common with the footage: rebuilt windows have been through Encoder and Decoder only,
in-betweens of true keyframes through the MotionPrior between them, sampled keyframes are made from nothing, one window
of them with its in-betweens is a sample that is never joined to another. Detail (fine in space / from frame to frame),
motion and how much it trembles (the change of the flow over the flow, the report's acceleration) are in times of the
windows they are held against: of footage at its own rate, or at the keyframes'. The line
of footage where windows of keyframes lie is what a perfect prior would come to: other shots, or other parts of them,
than the footage has on average.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

import reroll
from benchmarks.markdown import table
from reroll.errors import RerollError, UsageError
from reroll.evaluation.collect import rebuild
from reroll.evaluation.detail import detail_share
from reroll.evaluation.judge import cut, evenly
from reroll.evaluation.motion import continuity, motion_ratio
from reroll.evaluation.reference import Reference
from reroll.footage import Store, Windows, split
from reroll.footage.dataset import Draw
from reroll.generator import Generator as Run
from reroll.sampling.bridging import Keyframe
from reroll.sampling.sampler import Sampler
from reroll.sampling.settings import SampleSettings, generator_of

Row = dict[str, str]


def row(what: str, made: np.ndarray, footage: np.ndarray) -> Row:
    """One line: windows `N T H W 3` against those of footage."""
    detail = detail_share(made, footage)
    return {
        "what": what,
        "detail": f"{detail.space:.2f} / {detail.time:.2f}",
        "motion": f"{motion_ratio(made, footage):.2f}",
        "trembling": f"{trembling(made) / max(trembling(footage), 1e-6):.2f}",
    }


def trembling(windows: np.ndarray) -> float:
    """The mean acceleration of windows `N T H W 3`."""
    return float(np.mean([continuity(window).acceleration for window in windows]))


def fine(
    sampler: Sampler, keys: Sequence[Tensor], spacing: int, settings: SampleSettings, generator: Generator
) -> np.ndarray:
    """Frames `T H W 3` of keyframes `1 1 Z h w`, `spacing` apart, and what is between them, made as samples are."""
    frames = [Keyframe(key, bridging=False) for key in keys]
    stride = sampler.gaps_at_once(spacing)
    past, made = sampler.no_frames(), [keys[0]]
    for at in range(0, len(frames) - 1, stride):
        some, past = sampler.between(past, frames[at : at + stride + 1], spacing, settings, generator)
        made.append(some)
    return np.concatenate(list(sampler.decode(torch.cat(made, 1))))


def lying_at(store: Store, drawn: Draw, frames: int) -> np.ndarray:
    """The footage at its own rate where windows lie, cut into windows of `frames`; short shots' are left out."""
    straight = [window for window in drawn.indices if all(b > a for a, b in pairwise(window.tolist()))]
    return np.concatenate(
        [cut(store.frames(int(w[0]), int(w[-1]) + 1)[None], frames) for w in straight]
        or [np.zeros((0, frames, store.height, store.width, 3), np.uint8)]
    )


@torch.no_grad()
def rows(run: Run, count: int) -> list[Row]:
    """All lines; UsageError for a run without an Encoder."""
    sampler, record, fps = run.sampler, run.record, run.fps
    content = sampler.model.content
    if content is None:
        raise UsageError(f"{run.run}: {record.config.recipe} has no Encoder; give a run of vae or vaegan.")
    store = Store.open(Path(record.store))
    length, spacing = sampler.window_frames, sampler.spacing(fps)
    parts = split(store, length)
    windows = evenly(Reference.of(store, parts, length, fps, every=1).train, count)
    rebuilt = rebuild(sampler, windows)
    drawn = Windows(store, parts.train, seed=0, mirror=False)
    lie = drawn.draw(0, batch=count, frames=length, strides=[record.plan.key_stride])
    keyframes = drawn.read(lie).frames
    settings = SampleSettings(frames=length, fps=fps)

    between = []
    for number, window in enumerate(windows):
        keys = sampler.encode(window)[:, ::spacing].split(1, 1)
        between.append(fine(sampler, keys, spacing, settings, generator_of(number)))
    span = between[0].shape[0]

    times = torch.arange(length) * (spacing / fps)
    sampled, whole = [], []
    for seed in range(count):
        generator = generator_of(seed)
        code = content.draw(seed, settings.labels.at(0.0), settings.temperature, generator)
        assert code is not None  # there is one for any seed where no label is asked for
        new = sampler.windows_near(code, times, settings, generator)[:1]
        sampled.append(np.concatenate(list(sampler.decode(new))))
        whole.append(fine(sampler, new.split(1, 1), spacing, settings, generator))
    samples = [run.sample(len(whole[0]) / fps, seed=seed).frames for seed in range(count)]

    found = [
        row("rebuilt", rebuilt, windows),
        row("in-betweens of true keyframes", np.stack(between), windows[:, :span]),
        row("the same frames, rebuilt", rebuilt[:, :span], windows[:, :span]),
        row("keyframes, rebuilt", rebuild(sampler, keyframes), keyframes),
        row("keyframes, sampled", np.stack(sampled), keyframes),
        row("one window with its in-betweens", cut(np.stack(whole), length), windows),
        row("samples", cut(np.stack(samples), length), windows),
    ]
    footage = lying_at(store, lie, length)
    if len(footage):
        found.append(row("footage where windows of keyframes lie", footage, windows))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--windows", type=int, default=64, help="and samples")
    asked = parser.parse_args()
    try:
        print(table(rows(reroll.load(asked.run), asked.windows)))
    except RerollError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
