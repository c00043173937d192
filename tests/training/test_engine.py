"""The engine: what it decides about the machine and what it promises about bits."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from reroll.errors import UsageError
from reroll.training import machine
from reroll.training.engine import Engine, measure_bf16


@pytest.fixture(scope="module")
def engine():
    return Engine.start(device="cpu", precision="fp32", threads=1, seed=3)


def test_describes_what_the_bits_depend_on(engine):
    described = engine.describe()
    assert described["device"] == "cpu"
    assert described["precision"] == "fp32"
    assert described["threads"] == 1 == torch.get_num_threads()
    assert described["torch"] == torch.__version__
    assert described["cpu"]
    assert described["memory_bytes"] > 2**28


def test_frames_come_in_as_bytes_and_leave_in_range(engine):
    frames = np.zeros((2, 3, 4, 6, 3), dtype=np.uint8)
    frames[..., 0] = 255
    frames.flags.writeable = False  # as a memory map is: no warning, no shared memory
    out = engine.frames(frames)
    assert out.shape == (2, 3, 3, 4, 6)
    assert out.dtype == torch.float32
    assert torch.equal(out[:, :, 0], torch.ones(2, 3, 4, 6))
    assert torch.equal(out[:, :, 1:], -torch.ones(2, 3, 2, 4, 6))
    assert engine.frames(frames[0]).shape == (3, 3, 4, 6)


def test_every_byte_goes_there_and_back(engine):
    frames = np.arange(2 * 4 * 32 * 3, dtype=np.uint8).reshape(2, 1, 4, 32, 3)
    assert np.array_equal(engine.pixels(engine.frames(frames)), frames)
    beyond = torch.tensor([-9.0, 9.0, 0.0]).reshape(3, 1, 1)
    assert engine.pixels(beyond).tolist() == [[[0, 255, 128]]]


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 2, 4, 4, 3), np.float32), np.zeros((1, 2, 3, 4, 4), np.uint8)]
)
def test_frames_of_another_kind_are_refused(engine, wrong):
    with pytest.raises(ValueError, match="uint8 frames"):
        engine.frames(wrong)


def test_tensor_does_not_write_through_a_read_only_array(engine):
    array = np.arange(6.0)
    array.flags.writeable = False
    engine.tensor(array).zero_()
    assert array[5] == 5.0


def test_setup_keeps_values_and_takes_convolutions_of_any_rank(engine):
    module = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Conv2d(2, 4, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert engine.setup(module) is module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last)


def test_noise_depends_on_the_seed_alone(engine):
    one, again, other = (engine.noise((2, 3), engine.generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert engine.generator(5).device.type == "cpu"


def test_precision_as_asked():
    bf16 = Engine.start(device="cpu", precision="bf16", threads=1)
    linear = bf16.setup(nn.Linear(4, 4))
    with bf16.autocast():
        inside = linear(torch.ones(1, 4))
        with bf16.full_precision():
            full = linear(torch.ones(1, 4))
    assert inside.dtype == torch.bfloat16 == bf16.compute_dtype
    assert full.dtype == torch.float32
    inside.float().sum().backward()
    assert linear.weight.grad.dtype == torch.float32
    assert bf16.bf16_ratio is None  # not measured when it was asked for


def test_auto_precision_is_measured_and_recorded():
    auto = Engine.start(device="cpu", precision="auto", threads=1)
    assert auto.bf16_ratio is not None
    assert auto.precision == ("bf16" if auto.bf16_ratio > 1.15 else "fp32")
    assert auto.describe()["bf16_ratio"] == round(auto.bf16_ratio, 2)
    assert measure_bf16(torch.device("cpu")) > 0


@pytest.mark.parametrize(
    "options",
    [{"device": "tpu"}, {"precision": "fp8"}, {"threads": 0}, {"device": "cuda"}, {"device": "mps"}],
)
def test_options_that_cannot_be_met_are_refused_by_name(options):
    name, value = next(iter(options.items()))
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if present.get(str(value)):
        pytest.skip(f"{value} is present here")
    with pytest.raises(UsageError, match=f"--{name} {value}"):
        Engine.start(**options)


def test_same_seed_same_bits_in_fresh_processes():
    script = (
        "import hashlib, torch; from torch import nn\n"
        "from reroll.training.engine import Engine; from reroll.training.optimizer import Muon\n"
        "e = Engine.start(device='cpu', precision='bf16', threads=1, seed=11)\n"
        "m = e.setup(nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 3, 3)))\n"
        "o = Muon(m.parameters(), 1e-3, compute=e.compute_dtype)\n"
        "for i in range(3):\n"
        "    x = e.noise((4, 3, 12, 12), e.generator(i))\n"
        "    with e.autocast(): y = m(x)\n"
        "    o.zero_grad(); y.float().square().mean().backward(); o.step()\n"
        "data = b''.join(p.detach().contiguous().numpy().tobytes() for p in m.parameters())\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    hashes = set()
    for hash_seed in ("0", "1"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True
        )
        hashes.add(done.stdout.strip())
    assert len(hashes) == 1


def test_cores_respect_affinity_and_openmp(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.usable_cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= machine.usable_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(machine, "_cgroup", lambda name: {"cpu.max": "150000 100000"}.get(name, ""))
    assert machine.usable_cores() == 1


def test_a_busy_machine_is_said(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine, "busy_cores", lambda: 1)
    assert machine.busy_notes() == [
        "1 of 2 cores are busy with something else: training can be many times slower; "
        "end it, or give --threads 1."
    ]
    monkeypatch.setattr(machine, "busy_cores", lambda: 0)
    assert machine.busy_notes() == []


def test_a_busy_process_is_seen():
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    pin = f"import os; os.sched_setaffinity(0, {{{cpu}}})\n" if cpu is not None else ""
    spin = subprocess.Popen([sys.executable, "-c", pin + "while True: pass"])
    try:
        assert any(machine.busy_cores(0.5) >= 1 for _ in range(6))
    finally:
        spin.kill()
        spin.wait()


def test_allocator_setting_is_skipped_where_there_is_no_glibc(monkeypatch):
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert machine.keep_freed_memory() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is nothing to set")
@pytest.mark.parametrize("largest", [1 << 30, 1 << 25], ids=["new", "old"])
def test_freed_memory_is_kept_by_glibc_new_and_old(monkeypatch, largest):
    mallopt = ctypes.CDLL(None).mallopt

    def picky(option, value):
        return 0 if option == machine._M_MMAP_THRESHOLD and value > largest else mallopt(option, value)

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=picky))
    assert machine.keep_freed_memory() is True


def test_any_seed_that_may_be_given_will_do():
    assert Engine.start(device="cpu", precision="fp32", threads=1, seed=2**63 - 1).threads == 1
