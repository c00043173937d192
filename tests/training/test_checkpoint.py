"""Checkpoints under the faults of the reliability scorecard: bit flips, truncation, missing and foreign
files, a kill at every point of a save, full disks, two trainers; and states that come back bit for bit."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

from reroll.errors import BusyError, CheckpointError, SpaceError
from reroll.training import checkpoint
from reroll.training.checkpoint import checkpoints, load, load_newest, save, sweep
from reroll.training.lock import lock_run
from reroll.training.training_state import load_optimizer_state, optimizer_state


def tensors(value: float = 0.0):
    generator = torch.Generator().manual_seed(7)
    return {
        "weights": {"a": torch.randn(3, 5, generator=generator) + value, "b": torch.arange(4)},
        "ema": {"a": torch.randn(3, 5, generator=generator).to(torch.bfloat16)},
    }


STATE = {"stage": "autoencoder", "rate": 1 / 3, "list": [1, 2], "none": None, "words": "水"}


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path, 120, tensors(), STATE)


def test_what_was_saved_is_loaded(saved, tmp_path):
    loaded = load(saved)
    assert (loaded.step, loaded.state, loaded.finite) == (120, STATE, True)
    for stem, group in tensors().items():
        assert loaded.tensors[stem].keys() == group.keys()
        for name, value in group.items():
            assert torch.equal(loaded.tensors[stem][name], value)
            assert loaded.tensors[stem][name].dtype == value.dtype
    assert load_newest(tmp_path).path == saved
    assert load_newest(tmp_path / "nowhere") is None


def test_views_and_channels_last_tensors_can_be_saved(tmp_path):
    whole = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    loaded = load(save(tmp_path, 1, {"w": {"whole": whole, "part": whole[:1], "same": whole}}, {}))
    assert torch.equal(loaded.tensors["w"]["whole"], whole)
    assert torch.equal(loaded.tensors["w"]["part"], whole[:1])


def test_there_is_no_pickle(saved):
    assert {file.suffix for file in saved.iterdir()} == {".json", ".safetensors"}


def test_every_flipped_bit_is_detected(saved):
    """Row 6: of 600 such flips safetensors alone lets 590 through."""
    draw = random.Random(0)
    files = sorted(saved.iterdir())
    for _ in range(400):
        file = draw.choice(files)
        original = file.read_bytes()
        damaged = bytearray(original)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=file.name):
            load(saved)
        file.write_bytes(original)
    load(saved)


def test_every_truncation_is_detected_and_names_the_file(saved):
    for file in sorted(saved.iterdir()):
        original = file.read_bytes()
        for length in {0, 1, 2, len(original) // 3, len(original) // 2, len(original) - 2, len(original) - 1}:
            file.write_bytes(original[:length])
            with pytest.raises(CheckpointError, match=file.name):
                load(saved)
        file.write_bytes(original + b"\0")
        with pytest.raises(CheckpointError, match=file.name):
            load(saved)
        file.write_bytes(original)


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "weights.safetensors", "ema.safetensors"])
def test_missing_swapped_and_extra_files_are_named(tmp_path, name):
    first, second = save(tmp_path, 1, tensors(1), STATE | {"n": 1}), save(tmp_path, 2, tensors(2), STATE)
    if name == "ema.safetensors":  # equal in both: swapping it would be no fault
        (first / name).unlink()
    else:
        shutil.copy(first / name, second / name)
        with pytest.raises(CheckpointError, match=name):
            load(second)
        (first / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load(first)
    (second / "stranger.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"stranger\.safetensors|" + name):
        load(second)


def test_hidden_files_of_a_file_manager_do_no_harm(saved):
    (saved / ".DS_Store").write_bytes(b"x")
    load(saved)


def test_falls_back_and_says_why(tmp_path):
    paths = [save(tmp_path, step, tensors(step), STATE, keep=3) for step in (1, 2, 3)]
    (paths[2] / "state.json").unlink()
    (paths[1] / "weights.safetensors").write_bytes(b"")
    said: list[str] = []
    loaded = load_newest(tmp_path, said.append)
    assert loaded.step == 1
    assert len(said) == 2
    assert "step-00000003/state.json: missing" in said[0]
    assert "step-00000002/weights.safetensors: 0 bytes" in said[1]
    (paths[0] / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no usable checkpoint is left"):
        load_newest(tmp_path)


def test_an_unknown_format_is_refused_with_both_numbers(saved, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 1, this version reads format 2"):
        load(saved)


def test_a_renamed_checkpoint_is_refused(saved, tmp_path):
    with pytest.raises(CheckpointError, match="is of step 120"):
        load(saved.rename(tmp_path / "step-00000900"))


def test_keeps_the_last_two_and_the_last_finite_one(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step, tensors(), {})
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000020", "step-00000030"]
    save(tmp_path, 40, tensors(), {}, finite=False)
    save(tmp_path, 50, tensors(float("nan")), {})  # found out from the weights
    save(tmp_path, 60, tensors(), {}, finite=False)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000030", "step-00000050", "step-00000060"]
    assert load_newest(tmp_path).path.name == "step-00000060"
    assert load_newest(tmp_path, finite_only=True).path.name == "step-00000030"


def test_keeps_the_last_planned_one_to_go_back_to(tmp_path):
    save(tmp_path, 10, tensors(), {})
    for step in (11, 12, 13):
        save(tmp_path, step, tensors(), {}, planned=False)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000010", "step-00000012", "step-00000013"]
    assert load_newest(tmp_path).step == 13
    assert load_newest(tmp_path, finite_only=True, planned_only=True).step == 10
    checkpoint.discard_after(tmp_path, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000010"]


def test_newest_is_by_step_not_by_clock(tmp_path):
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step, tensors(), {})
    os.utime(tmp_path / "step-100000000", (0, 0))
    assert load_newest(tmp_path).path.name == "step-100000000"


def test_a_step_saved_twice_never_overwrites(tmp_path):
    first, second = save(tmp_path, 5, tensors(1), {"n": 1}), save(tmp_path, 5, tensors(2), {"n": 2})
    assert first != second
    assert load_newest(tmp_path).state == {"n": 2}
    third = save(tmp_path, 5, tensors(), {"n": 3}, keep=1)
    assert load_newest(tmp_path).state == {"n": 3}
    assert checkpoints(tmp_path) == [third]


def test_sweep_touches_nothing_but_strays(tmp_path, saved):
    for name in ("step-00000130.tmp-0a1b", "step-00000120.1.gone-ff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    assert checkpoints(tmp_path) == [saved]
    assert sweep(tmp_path) == ["step-00000120.1.gone-ff", "step-00000130.tmp-0a1b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "step-00000120"]
    assert sweep(tmp_path / "nowhere") == []


def test_no_space_is_found_before_writing(tmp_path, saved, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(SpaceError, match=r"needs \d+ bytes and 1000 are free"):
        save(tmp_path, 130, tensors(), {})
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, SpaceError), (errno.EFBIG, SpaceError), (errno.EIO, CheckpointError)]
)
def test_a_failing_disk_leaves_no_torso(tmp_path, saved, monkeypatch, code, kind):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(kind, match="step"):
        save(tmp_path, 130, tensors(), {})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [saved]
    assert load_newest(tmp_path).path == saved
    assert save(tmp_path, 130, tensors(), {}).name == "step-00000130"  # goes on once there is room


def _train(module, optimizer, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(2, 3, 6, 6, generator=generator)).square().mean().backward()
        optimizer.step()


def _fresh(kind):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 3)).to(
        memory_format=torch.channels_last
    )
    groups = [{"params": module[0].parameters()}, {"params": module[2].parameters(), "lr": 0.02}]
    return module, kind(groups, lr=0.01)


@pytest.mark.parametrize(
    "kind", [torch.optim.AdamW, torch.optim.Adam, lambda g, lr: torch.optim.SGD(g, lr, momentum=0.9)]
)
def test_resumed_training_equals_uninterrupted_training(tmp_path, kind):
    straight, optimizer = _fresh(kind)
    _train(straight, optimizer, 4, seed=1)
    optimizer.param_groups[0]["lr"] = 0.005  # as a halved rate would be
    moments, rest = optimizer_state(optimizer)
    save(tmp_path, 4, {"weights": straight.state_dict(), "optimizer": moments}, {"optimizer": rest})
    _train(straight, optimizer, 4, seed=2)

    resumed, second = _fresh(kind)
    loaded = load_newest(tmp_path)
    resumed.load_state_dict(loaded.tensors["weights"])
    load_optimizer_state(second, loaded.tensors["optimizer"], loaded.state["optimizer"])
    assert second.param_groups[0].get("betas", ()) == optimizer.param_groups[0].get("betas", ())
    _train(resumed, second, 4, seed=2)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_optimizer_of_another_model_is_refused():
    module, optimizer = _fresh(torch.optim.Adam)
    _train(module, optimizer, 1, seed=1)
    moments, rest = optimizer_state(optimizer)
    other = torch.optim.Adam(nn.Linear(3, 3).parameters())
    with pytest.raises(CheckpointError, match="other parameter groups"):
        load_optimizer_state(other, moments, rest)
    wider = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 2, 3))
    other = torch.optim.Adam([{"params": wider[0].parameters()}, {"params": wider[2].parameters()}])
    with pytest.raises(CheckpointError, match=r"0\.exp_avg"):
        load_optimizer_state(other, moments, rest)


HOLDER = """
import sys, time
from pathlib import Path
from reroll.training.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_trainer_is_refused_and_told_who_the_first_is(tmp_path):
    """Row 18: at once, by name; and a killed owner's lock is free."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(BusyError, match=f"process {holder.pid} on "), lock_run(tmp_path):
            pass
        holder.kill()
    with lock_run(tmp_path):
        assert json.loads((tmp_path / "owner.json").read_text())["pid"] == os.getpid()
        with pytest.raises(BusyError, match=str(os.getpid())), lock_run(tmp_path):
            pass
        assert (tmp_path / "owner.json").exists(), "the refused one leaves the owner's card"
    assert not (tmp_path / "owner.json").exists()
    with lock_run(tmp_path / "new" / "run"):
        pass


def test_a_lock_without_an_owner_card_is_still_a_lock(tmp_path):
    with lock_run(tmp_path):
        (tmp_path / "owner.json").write_text("{")
        with pytest.raises(BusyError, match="another process"), lock_run(tmp_path):
            pass
