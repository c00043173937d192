"""MoCoGAN: a clip is one content code and a path of motion codes, drawn by an image generator.

Tulyakov, Liu, Yang, Kautz 2018, "MoCoGAN: Decomposing Motion and Content for Video Generation", written anew from the
paper (section 3) and fitted to minutes on a CPU. In go clips `T H W 3`, uint8; a sample is z_C ~ N(0, I), fixed over
the clip, beside z_M^(k) of a GRU that is fed noise at every frame, for as many frames as wanted. D_I judges single
frames, D_V windows of 16, and all are trained end to end.

As in the paper: the codes, the networks' outlines, D_I and D_V. Different, because samples after four minutes on one
core were better: half the published code's widths; z acts on every layer, not only on the first; motion codes that
start out smooth, and as large as content; a relativistic loss with R1; (2+1)-D convolutions; windows of several
strides, by which D_V sees that a clip stays one clip; an average of the generator's weights for sampling.

Inside, frames are `B T 3 H W` float in [-1, 1].
"""

import copy
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from benchmarks.baselines import Frames
from benchmarks.baselines.resizing import resized

WINDOW = 16  # frames D_V sees
STRIDES = (1, 1, 2, 3)  # of the windows in a batch
IMAGES = 16  # frames in a batch of D_I, each of a clip of its own
WIDTH = 32  # channels at full size; the paper's code has 64
CONTENT, MOTION = 50, 16
MEMORY_FRAMES = 16  # the longest that a unit of the young GRU remembers
WARM_UP_FRAMES = 32  # after which the GRU has forgotten its first state
RATE, BETAS = 6e-4, (0.3, 0.99)
PENALTY, PENALTY_EVERY = 10.0, 4
AVERAGE = 0.999
CHUNK = 64  # frames drawn at a time in sampling


@dataclass(frozen=True)
class Grid:
    """What the networks work on: `rows × columns` places, doubled `layers` times."""

    rows: int
    columns: int
    layers: int

    @classmethod
    def of(cls, height: int, width: int) -> "Grid":
        """About four places on the short side, in the footage's proportions."""
        layers = max(2, round(math.log2(min(height, width) / 4)))
        return cls(max(1, round(height / 2**layers)), max(1, round(width / 2**layers)), layers)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.rows << self.layers, self.columns << self.layers

    @property
    def widths(self) -> list[int]:
        """Channels from the coarsest layer to the finest."""
        return [WIDTH * min(8, 2**k) for k in reversed(range(self.layers))]


class ImageGenerator(nn.Module):
    """G_I: codes `N CONTENT+MOTION` → frames `N 3 H W`. A DCGAN, whose normalisations are scaled and shifted by z."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid, widths, codes = grid, grid.widths, CONTENT + MOTION
        self.enter = nn.Linear(codes, widths[0] * grid.rows * grid.columns, bias=False)
        self.enter_norm = nn.BatchNorm2d(widths[0])
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in widths[1:])
        self.styles = nn.ModuleList(nn.Linear(codes, 2 * o) for o in widths[1:])
        self.leave = nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1)
        for layer in (self.enter, self.leave, *self.up, *self.styles):
            nn.init.normal_(layer.weight, 0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        x = self.enter(z).unflatten(1, (-1, self.grid.rows, self.grid.columns))
        x = F.relu(self.enter_norm(x.contiguous(memory_format=torch.channels_last)))
        for up, norm, style in zip(self.up, self.norms, self.styles, strict=True):
            scale, shift = style(z)[:, :, None, None].chunk(2, 1)
            x = F.relu(norm(up(x)) * (1 + scale) + shift)
        return torch.tanh(self.leave(x).float())


class VideoGenerator(nn.Module):
    """R_M and G_I: noise → codes → frames."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.recurrent = nn.GRUCell(MOTION, MOTION)
        self.normalise = nn.BatchNorm1d(MOTION, affine=False)
        self.image = ImageGenerator(grid)
        # Update gates that remember for 1 to MEMORY_FRAMES frames (Tallec & Ollivier 2018): paths that jump at every
        # frame are easily told from footage, and a young generator then learns to stand still.
        memory = 1 + torch.rand(MOTION) * (MEMORY_FRAMES - 1)
        with torch.no_grad():
            self.recurrent.bias_ih[MOTION : 2 * MOTION] = memory.log()
            self.recurrent.bias_hh[MOTION : 2 * MOTION] = 0

    def codes(self, clips: int, frames: int, random: Generator) -> Tensor:
        """`clips frames CONTENT+MOTION`: z_C, the same over a clip, and a path of z_M."""
        content = torch.randn(clips, 1, CONTENT, generator=random).expand(-1, frames, -1)
        state = torch.randn(clips, MOTION, generator=random)
        noise = torch.randn(WARM_UP_FRAMES + frames, clips, MOTION, generator=random)
        with torch.no_grad():
            for step in noise[:WARM_UP_FRAMES]:
                state = self.recurrent(step, state)
        path = []
        for step in noise[WARM_UP_FRAMES:]:
            state = self.recurrent(step, state)
            path.append(state)
        motion = self.normalise(torch.stack(path, 1).float().flatten(0, 1)).unflatten(0, (clips, frames))
        return torch.cat([content, motion], 2)

    def training_batch(self, strides: Sequence[int], random: Generator) -> tuple[Tensor, Tensor]:
        """A window `T 3 H W` for each stride, and IMAGES frames of other clips."""
        codes = self.codes(len(strides), (WINDOW - 1) * max(strides) + 1, random)
        windows = [
            path[: (WINDOW - 1) * stride + 1 : stride] for path, stride in zip(codes, strides, strict=True)
        ]
        drawn = self.image(torch.cat([*windows, self.codes(IMAGES, 1, random)[:, 0]]))
        videos, images = drawn.split([WINDOW * len(strides), IMAGES])
        return videos.unflatten(0, (-1, WINDOW)), images


class Head(nn.Module):
    """Features `B C ...` → one logit `B`. It also sees how much the batch varies (Karras et al. 2018)."""

    def __init__(self, features: int, places: int) -> None:
        super().__init__()
        self.judge = nn.Linear((features + 1) * places, 1)

    def forward(self, x: Tensor) -> Tensor:
        varies = (x.float().var(0, unbiased=False) + 1e-8).sqrt().mean().to(x.dtype)
        seen = torch.cat([x, varies.expand_as(x[:, :1])], 1)
        return self.judge(seen.flatten(1)).float()[:, 0]


class ImageDiscriminator(nn.Module):
    """D_I: frames `B 3 H W` → logits `B`."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        widths = [3, *reversed(grid.widths)]
        self.down = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in pairwise(widths))
        self.head = Head(widths[-1], grid.rows * grid.columns)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.contiguous(memory_format=torch.channels_last)
        for down in self.down:
            x = F.leaky_relu(down(x), 0.2)
        return self.head(x)


class VideoDiscriminator(nn.Module):
    """D_V: windows `B WINDOW 3 H W` → logits `B`."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        widths = [3, *reversed(grid.widths)]
        self.down, self.mix = nn.ModuleList(), nn.ModuleList()
        frames = WINDOW
        for depth, (i, o) in enumerate(pairwise(widths)):
            stride = 2 if depth else 1
            self.down.append(nn.Conv3d(i, o, (1, 4, 4), (1, 2, 2), (0, 1, 1)))
            self.mix.append(nn.Conv3d(o, o, (3, 1, 1), (stride, 1, 1), (1, 0, 0)))
            frames = -(-frames // stride)
        self.head = Head(widths[-1], frames * grid.rows * grid.columns)

    def forward(self, windows: Tensor) -> Tensor:
        x = windows.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        for down, mix in zip(self.down, self.mix, strict=True):
            x = F.leaky_relu(mix(down(x)), 0.2)
        return self.head(x)


class Footage:
    """Clips as D_V and D_I are shown them."""

    def __init__(self, clips: Sequence[Frames], size: tuple[int, int]) -> None:
        self.clips = [
            torch.from_numpy(resized(to_and_fro(clip), *size)).permute(0, 3, 1, 2) for clip in clips
        ]
        longest = max(map(len, self.clips))
        self.strides = [min(stride, (longest - 1) // (WINDOW - 1)) for stride in STRIDES]
        self.frames = torch.cat(self.clips)

    def windows(self, random: Generator) -> Tensor:
        """`B WINDOW 3 H W`, one of each stride; every place in the clips is as likely."""
        return as_floats(torch.stack([self._window(stride, random) for stride in self.strides]))

    def images(self, random: Generator) -> Tensor:
        """`IMAGES 3 H W`."""
        return as_floats(self.frames[torch.randint(len(self.frames), (IMAGES,), generator=random)])

    def _window(self, stride: int, random: Generator) -> Tensor:
        span = (WINDOW - 1) * stride + 1
        places = torch.tensor([max(0, len(clip) - span + 1) for clip in self.clips])
        place = int(torch.randint(int(places.sum()), (1,), generator=random))
        chosen = int(torch.searchsorted(places.cumsum(0), place, right=True))
        start = place - int(places[:chosen].sum())
        return self.clips[chosen][start : start + span : stride]


def to_and_fro(clip: Frames) -> Frames:
    """A clip shorter than a window goes back and forth, so long that a window can begin at any of its frames."""
    if len(clip) >= WINDOW:
        return clip
    period = max(1, 2 * (len(clip) - 1))
    phase = np.arange(period + WINDOW - 1) % period
    return clip[np.minimum(phase, period - phase)]


def as_floats(frames: Tensor) -> Tensor:
    """uint8 → [-1, 1]."""
    return frames.float() / 127.5 - 1


def fast() -> AbstractContextManager[None]:
    """Convolutions in bfloat16: two to four times as fast on the CPUs that have it."""
    return torch.autocast("cpu", torch.bfloat16)


class Training:
    """The networks, their optimizers, and a step of both sides."""

    def __init__(self, clips: Sequence[Frames], seed: int) -> None:
        grid = Grid.of(*clips[0].shape[1:3])
        self.footage = Footage(clips, grid.size)
        self.random = Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.generator = VideoGenerator(grid)
            self.judges = nn.ModuleList([VideoDiscriminator(grid), ImageDiscriminator(grid)])
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), RATE, BETAS)
        self.judge_optimizer = torch.optim.Adam(self.judges.parameters(), RATE, BETAS)
        self.steps = 0

    def step(self) -> None:
        """One update of D_V and D_I, and one of G_I and R_M on the same frames."""
        real = (self.footage.windows(self.random), self.footage.images(self.random))
        with fast():
            generated = self.generator.training_batch(self.footage.strides, self.random)
        on_real = self._update_judges(real, [each.detach() for each in generated])
        self.judges.requires_grad_(False)
        with fast():
            loss = relativistic(self._verdicts(generated), on_real)
        self.judges.requires_grad_(True)
        update(self.generator_optimizer, loss)
        self.steps += 1
        self._follow()

    def _update_judges(self, real: Sequence[Tensor], generated: Sequence[Tensor]) -> list[Tensor]:
        """The judges' logits on footage from before the update."""
        punish = self.steps % PENALTY_EVERY == 0
        for each in real:
            each.requires_grad_(punish)
        with fast():
            on_real = self._verdicts(real)
            loss = relativistic(on_real, self._verdicts(generated))
        if punish:
            loss = loss + PENALTY_EVERY * PENALTY / 2 * slope(on_real, real)
        update(self.judge_optimizer, loss)
        return [each.detach() for each in on_real]

    def _verdicts(self, batches: Iterable[Tensor]) -> list[Tensor]:
        return [judge(batch) for judge, batch in zip(self.judges, batches, strict=True)]

    @torch.no_grad()
    def _follow(self) -> None:
        """The average reaches back over about a ninth of the steps so far, over 1000 at the most."""
        keep = min(AVERAGE, (1 + self.steps) / (10 + self.steps))
        now = self.generator.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[name], 1 - keep)


def relativistic(better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
    """Pair loss of both judges (Jolicoeur-Martineau 2019), in place of the paper's two log-likelihoods each."""
    return torch.stack([F.softplus(b - a).mean() for a, b in zip(better, worse, strict=True)]).sum()


def slope(logits: Sequence[Tensor], frames: Sequence[Tensor]) -> Tensor:
    """R1 (Mescheder et al. 2018): squared gradient at footage, per frame, of both judges."""
    gradients = torch.autograd.grad([each.sum() for each in logits], frames, create_graph=True)
    videos, images = (each.float().square().flatten(1).sum(1).mean() for each in gradients)
    return videos / WINDOW + images


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step down the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@dataclass(frozen=True, eq=False)
class MoCoGan:
    """A trained generator, and the size of frames it is to give."""

    generator: VideoGenerator
    size: tuple[int, int]
    steps: int

    @torch.no_grad()
    def sample(self, frames: int, seed: int) -> Frames:
        """The GRU runs on for as long as it is asked to."""
        codes = self.generator.codes(1, frames, Generator().manual_seed(seed))[0]
        with fast():
            drawn = torch.cat([self.generator.image(part) for part in codes.split(CHUNK)])
        pixels = ((drawn + 1) * 127.5).round().clamp(0, 255).byte()
        return resized(pixels.permute(0, 2, 3, 1).numpy(), *self.size)

    def loop(self, frames: int, seed: int) -> None:
        """None: a recurrent path does not come back to where it began."""

    def rebuild(self, clip: Frames) -> None:
        """None: there is no encoder."""


def train(clips: Sequence[Frames], fps: float, seconds: float, seed: int) -> MoCoGan:
    """Train for so many seconds; a step that would end later is not begun. `fps` is not needed: a sample has the
    footage's rate."""
    deadline = time.monotonic() + seconds
    training = Training(clips, seed)
    took = 0.0
    while (began := time.monotonic()) + took < deadline:
        training.step()
        took = time.monotonic() - began
    return MoCoGan(training.average, clips[0].shape[1:3], training.steps)
