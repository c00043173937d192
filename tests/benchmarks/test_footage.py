"""The footage's own line: stretches of it and nothing else."""

import numpy as np

from benchmarks.baselines import footage


def counted(*lengths):
    """Clips whose frames are numbered through."""
    numbers = np.split(np.arange(sum(lengths), dtype=np.uint8), np.cumsum(lengths)[:-1])
    return [np.broadcast_to(part[:, None, None, None], (len(part), 4, 4, 3)) for part in numbers]


def test_a_sample_is_a_stretch_of_one_clip():
    baseline = footage.train(counted(20, 30), 25.0, 1.0, 0)
    starts = set()
    for seed in range(30):
        numbers = baseline.sample(8, seed)[:, 0, 0, 0].astype(int)
        assert (np.diff(numbers) == 1).all()
        assert not numbers[0] < 20 <= numbers[-1]
        starts.add(numbers[0])
    assert len(starts) > 10


def test_what_is_longer_than_a_clip_goes_to_and_fro():
    numbers = footage.train(counted(5), 25.0, 1.0, 0).sample(12, 0)[:, 0, 0, 0].tolist()
    assert numbers == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
