"""VideoModel: the parts that make a sample, with the footage's grid and the latents' statistics.

`early_prior` is the MotionPrior as it was half-way through its training: samples are led away from what the two have
in common, their mistakes (`objectives/flow.py`).
The Discriminator is not in it: it trains the model and is never sampled from. Outside the parts, latents are
whitened: mean 0 and variance 1 per channel over the footage.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from reroll.config import ModelConfig
from reroll.parts.decoder import Decoder
from reroll.parts.encoder import STRIDE, Encoder
from reroll.parts.motion_prior import PATCH, MotionPrior

GRID = STRIDE * PATCH
CONTENT_WINDOWS, CONTENT_DIMENSIONS = 256, 16
CONTENT_NOISE = 0.15
"""Width of the kernel around a training window's code, in standard deviations of the first component."""


OLDER_SPREAD = torch.tensor([1.0, 0.0, 1.0])


def older(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a model's `state`, what models of older versions do not have, as it would be in them: their flow begins with
    noise everywhere, and their MotionPrior is not told what lies between given frames."""
    told = {name: torch.zeros(value.shape) for name, value in state.items() if name.endswith("prior.between")}
    return {"source_spread": OLDER_SPREAD} | told


GOLDEN = 10610209857723, 17167680177565
"""Two Fibonacci numbers in a row: the golden ratio as a fraction, since a float has too few digits for large seeds."""


class Content(nn.Module):
    """What is in a window, apart from how it moves: the mean of its latents over time, in a few components.

    Which clip a new window is of shows in noise only when all its thousands of dimensions are taken together, which a
    young MotionPrior cannot do: it gives every seed the same clip, or a mixture of several. So a new window begins
    with a content drawn from the footage's own (the content code of MoCoGAN, Tulyakov et al. 2018, with a prior that
    is a kernel density of the training windows' codes), and the MotionPrior sees it as a blurred picture.
    """

    mean: Tensor
    basis: Tensor
    codes: Tensor
    labels: Tensor
    shots: Tensor

    def __init__(self, latent_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_shape))
        self.register_buffer("basis", torch.zeros(CONTENT_DIMENSIONS, *latent_shape))
        self.register_buffer("codes", torch.zeros(CONTENT_WINDOWS, CONTENT_DIMENSIONS))
        self.register_buffer("labels", torch.full((CONTENT_WINDOWS,), -1))
        self.register_buffer("shots", torch.zeros(CONTENT_WINDOWS, dtype=torch.int64))

    @torch.no_grad()
    def measure(self, windows: Tensor, labels: Tensor, shots: Tensor) -> None:
        """Take principal components and codes from `CONTENT_WINDOWS` whitened latent windows' means `N Z h w`, their
        labels `N` and the numbers of the shots they are from, in the order of the footage."""
        flat = (windows - windows.mean(0)).flatten(1).cpu()
        _, sizes, directions = torch.linalg.svd(flat, full_matrices=False)
        count = min(CONTENT_DIMENSIONS, len(directions))
        basis = torch.zeros(self.basis.shape).flatten(1)
        basis[:count] = directions[:count] * (sizes[0] / len(flat) ** 0.5).clamp(min=1e-3)
        self.mean.copy_(windows.mean(0))
        self.basis.copy_(basis.view_as(self.basis))
        self.labels.copy_(labels)
        self.shots.copy_(shots)
        self.codes.copy_(self.encode(windows[:, None].to(self.mean.device)))

    def encode(self, latents: Tensor) -> Tensor:
        """Codes `B k` of windows `B T Z h w`; over the footage the first component has variance 1, the others less."""
        basis = self.basis.flatten(1)
        apart = (latents.mean(1) - self.mean).flatten(1)
        codes: Tensor = apart @ basis.T / basis[0].square().sum().clamp(min=1e-12)
        return codes

    def draw(
        self, seed: int, labels: Sequence[tuple[int, float]], temperature: float, generator: Generator
    ) -> Tensor | None:
        """The code `1 k` of a new clip: of a training window (with one of `labels`, given with their shares; any if
        there are none), and noise. None when no window has the label.

        Which window it is goes round the footage with the seed by the golden ratio (Weyl's sequence), so that a few
        seeds in a row show much of the footage, and in its own proportions: drawn at random, nine of twenty clips are
        missing from sixteen samples.
        """
        step, whole = GOLDEN
        place = (seed * step + whole // 2) % whole
        if len(labels) > 1:  # a label's share of the way round belongs to its windows
            rest = place / whole
            chosen = next((each for each, share in labels if (rest := rest - share) < 0), labels[-1][0])
            share = dict(labels)[chosen]
            labels, place = [(chosen, 1.0)], min(whole - 1, max(0, round((1 + rest / share) * whole)))
        fitting = self._fitting(labels)
        if not len(fitting):
            return None
        return self._near(fitting[place * len(fitting) // whole], temperature, generator)

    def draw_near(
        self,
        code: Tensor,
        labels: Sequence[tuple[int, float]],
        temperature: float,
        generator: Generator,
        nearest: int,
    ) -> Tensor:
        """The code `1 k` of another window: of one of so many training windows `nearest` to `code`, with one of the
        labels (any if there are none) where there are such.

        They are of the shot that `code` is nearest to, or no farther than half of the windows of that shot are: a shot
        that has few windows would else go over to what another one shows.
        """
        far = (self.codes - code).square().sum(1).cpu()
        fitting = self._fitting(labels)
        fitting = fitting if len(fitting) else torch.arange(CONTENT_WINDOWS)
        shots, away = self.shots.cpu()[fitting], far[fitting]
        of_shot = shots == shots[away.argmin()]
        fitting = fitting[of_shot | (away <= away[of_shot].median())]
        nearest_ones = fitting[far[fitting].argsort()[:nearest]]
        chosen = nearest_ones[int(torch.randint(len(nearest_ones), (1,), generator=generator))]
        return self._near(chosen, temperature, generator)

    def _fitting(self, labels: Sequence[tuple[int, float]]) -> Tensor:
        """The numbers of the training windows with one of the labels (of all if there are none)."""
        if not labels:
            return torch.arange(CONTENT_WINDOWS)
        return torch.isin(self.labels.cpu(), torch.tensor([label for label, _ in labels])).nonzero()[:, 0]

    def _near(self, window: Tensor, temperature: float, generator: Generator) -> Tensor:
        """The code `1 k` of a training window, and noise."""
        noise = torch.randn(CONTENT_DIMENSIONS, generator=generator).to(self.codes.device)
        return (self.codes[window] + CONTENT_NOISE * temperature * noise)[None]

    def forward(self, codes: Tensor) -> Tensor:
        """Codes `B k` → mean latents `B Z h w`."""
        content: Tensor = self.mean + (codes @ self.basis.flatten(1)).unflatten(1, self.mean.shape)
        return content


class VideoModel(nn.Module):
    """Encoder (unless the recipe has none), MotionPrior and Decoder for frames of one size."""

    latent_mean: Tensor
    latent_scale: Tensor
    source_spread: Tensor
    """Of the flow's source (`objectives/flow.py`): between given frames that are alike, for each unit of change from
    one to the other, and around a content: 3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config.decoder_widths, channels) if config.encoder else None
        self.decoder = Decoder(config.decoder_widths, channels)
        self.motion_prior = MotionPrior(
            channels,
            config.prior_width,
            config.prior_depth,
            config.prior_heads,
            len(config.labels),
            content=config.encoder,
        )
        self.early_prior = copy.deepcopy(self.motion_prior).requires_grad_(False) if config.encoder else None
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_scale", torch.ones(channels))
        self.register_buffer("source_spread", OLDER_SPREAD.clone())
        self.content = Content(self.latent_shape) if config.encoder else None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """`Z h w` of one frame: the picture padded to whole tokens, divided by 8."""
        config = self.config
        return config.latent_channels, -(-config.height // GRID) * PATCH, -(-config.width // GRID) * PATCH

    def pad(self, frames: Tensor) -> Tensor:
        """`B T 3 H W` → `N 3 H' W'` with edges repeated up to whole tokens."""
        flat = frames.flatten(0, 1)
        padded = F.pad(flat, (0, -flat.shape[-1] % GRID, 0, -flat.shape[-2] % GRID), mode="replicate")
        return padded.contiguous(memory_format=torch.channels_last)

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, `B T Z h w`, of raw (not whitened) latents of frames `B T 3 H W`."""
        if self.encoder is None:
            raise TypeError("this recipe has no encoder")
        mean, log_variance = self.encoder(self.pad(frames))
        shape = frames.shape[:2]
        return mean.unflatten(0, shape), log_variance.unflatten(0, shape)

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Raw latents `B T Z h w` → frames `B T 3 H W`, the padding cropped."""
        frames: Tensor = self.decoder(latents)
        return frames[..., : self.config.height, : self.config.width]

    def whiten(self, latents: Tensor) -> Tensor:
        """Raw latents → whitened ones, `B T Z h w`."""
        return (latents - self.latent_mean[:, None, None]) / self.latent_scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Whitened latents `B T Z h w` → frames `B T 3 H W`."""
        return self.decode_raw(latents * self.latent_scale[:, None, None] + self.latent_mean[:, None, None])

    def encode(self, frames: Tensor) -> Tensor:
        """Frames `B T 3 H W` in [-1, 1] → whitened posterior means `B T Z h w`."""
        return self.whiten(self.posterior(frames)[0])
