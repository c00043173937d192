"""The benchmark of speed at tiny settings: figures are made, positive and agree with each other; the plain loop makes
the very steps of `vae`, and learns."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from benchmarks.speed import __main__ as program
from benchmarks.speed import (
    footage,
    footprint,
    machine,
    memory,
    race,
    ratio,
    sampling,
    sizes,
    startup,
    training,
)
from benchmarks.speed.bench import Bench
from benchmarks.speed.children import ROOT, environment, in_child
from benchmarks.speed.exam import Exam
from benchmarks.speed.flops import flops_of
from benchmarks.speed.plain import PlainLoop, open_loop, step_seconds
from benchmarks.speed.tables import Table, figure, interleaved
from reroll.recipes import RECIPES
from reroll.training import loop
from reroll.training.engine import Engine

SIZE, MODEL = 32, "s"


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """One round of everything, a second of footage."""
    cache = tmp_path_factory.mktemp("cache")
    clip = footage.make_clip(cache / "short.mp4", 3.0)
    return Bench(
        Engine.start("cpu", "fp32", threads=1), footage.Footage([clip], cache), sizes=(SIZE,), models=(MODEL,),
        rounds=1, products=(128,), seconds=0.2, lengths=(0.4,), footage_lengths=(2.0,),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Tiny networks, but in processes of their own."""
    toy.shrink(monkeypatch)


@pytest.fixture(scope="module")
def run(bench, tmp_path_factory) -> Path:
    """A `vae` run of a few steps, and what training it took."""
    place = tmp_path_factory.mktemp("runs") / "run"
    found = in_child(
        "memory", kind="trained", clip=bench.footage.clips[0], run=place, recipe="vae", size=SIZE, model=MODEL,
        threads=1, steps=4, preview=False,
    )  # fmt: skip
    assert found["peak_bytes"] > found["before_bytes"] > 0
    assert found["amount"] == 75
    return place


def plain_loop(bench) -> PlainLoop:
    return open_loop(str(bench.footage.store(SIZE).path), MODEL, threads=1)


def test_flops_of_what_is_known():
    a, b = torch.zeros(8, 16), torch.zeros(16, 4)
    assert flops_of(lambda: a @ b) == 2 * 8 * 16 * 4
    q = torch.zeros(1, 2, 32, 8)
    attention = flops_of(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert attention == 2 * (2 * 2 * 32 * 32 * 8)


def test_machine(bench):
    (table,) = machine.tables(bench)
    assert {row["precision"] for row in table.rows} == {"fp32", "bf16"}
    for row in table.rows:
        assert 0 < max(row["torch.mm GFLOP/s"], row["convolution GFLOP/s"]) <= row["peak GFLOP/s"]


def test_training_figures_agree(bench):
    (table,) = training.tables(replace(bench, recipes=("vae", "gan")))
    assert [row["stage"] for row in table.rows] == ["autoencoder", "prior", "redrawing", "adversarial"]
    peak = machine.peak(machine.rates(bench), "fp32", 1)
    frames = {"autoencoder": 15, "prior": 128, "redrawing": 63, "adversarial": 63}
    for row in table.rows:
        assert row["GFLOP/s"] == pytest.approx(row["GFLOPs a step"] / row["seconds a step"])
        assert row["share of peak"] == pytest.approx(row["GFLOP/s"] / peak)
        assert row["frames a second"] * row["seconds a step"] == pytest.approx(frames[row["stage"]])
        assert 0 < row["of these optimizer"] < 1


def test_the_plain_loop_makes_the_steps_of_vae(bench):
    """As many FLOPs as ours: less Muon's, and in the prior's stage with those of encoding 8 × 16 frames."""
    loop = plain_loop(bench)
    encoding = flops_of(lambda: loop.encode(torch.zeros(8, 16, 3, SIZE, bench.footage.store(SIZE).width)))
    for index, (stage, extra) in enumerate((("autoencoder", 0), ("prior", encoding))):
        ours = training.Stage.enter(bench.engine, RECIPES["vae"], index, MODEL, bench.footage.windows(SIZE))
        wanted = ours.flops() - ours.optimizer_flops() + extra
        assert flops_of(lambda stage=stage: loop.train(stage, float)) == wanted > 0


def test_the_plain_loop_learns(bench):
    loop = plain_loop(bench)
    exam = Exam(loop.windows.store, loop.strides)
    before = exam.psnr(loop.model, nullcontext()), exam.flow(loop.model, nullcontext())
    encoder = loop.model.encoder.leave.weight
    for stage, steps in (("autoencoder", 80), ("prior", 60)):
        was = encoder.clone()
        losses = loop.train(stage, lambda done, steps=steps: done / steps)
        assert len(losses) == steps
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
        assert torch.equal(was, encoder) == (stage == "prior")
    assert exam.psnr(loop.model, nullcontext()) > before[0] + 2
    assert Exam(loop.windows.store, loop.strides).flow(loop.model, nullcontext()) < before[1]


def test_ratio_of_steps(bench, monkeypatch):
    monkeypatch.setattr(ratio, "in_child", lambda module, **options: step_seconds(**options))
    made_up = ratio.compared([{"autoencoder": 0.1, "prior": 0.2}], [{"autoencoder": 0.2, "prior": 0.6}])
    assert made_up[-1]["times as fast"] == pytest.approx(0.38 * 2 + 0.62 * 3)
    (table,) = ratio.tables(bench)
    for row in table.rows[:-1]:
        seconds = [row[f"{who}, seconds a step"] for who in ("ours", "plain")]
        assert min(seconds) > 0
        assert row["times as fast"] == pytest.approx(seconds[1] / seconds[0])


def test_sampling(bench):
    (table,) = sampling.tables(bench)
    assert [(row["recipe"], row["denoise steps"]) for row in table.rows] == [
        ("vae, vaegan", 1), ("vae, vaegan", 4), ("vae, vaegan", 24), ("gan", 1)
    ]  # fmt: skip
    assert all(row["frames a second"] > 0 for row in table.rows)


def test_memory(bench):
    rows = memory.sampling_rows(replace(bench, recipes=("gan",)))
    assert rows[0]["frames"] == 10
    assert rows[0]["peak MB"] >= rows[0]["of these before it began"] > 50
    found = [{"amount": 10, "peak_bytes": peak, "before_bytes": 1} for peak in (100, 150)]
    assert [row["times the shortest"] for row in memory.rows_of("", "", ["1 s", "2 s"], found)] == [1.0, 1.5]


def test_what_is_told_of_memory_is_about_what_it_takes(bench):
    (table,) = footprint.tables(replace(bench, recipes=("gan",), sizes=(32, 128)))
    small, large = table.rows
    assert small["frame"] == "42×32"
    assert 0.7 < small["told over peak"] < 1.4
    assert 0.7 < large["told over peak"] < 1.4
    assert 0.5 < (large["told MB"] - small["told MB"]) / (large["peak MB"] - small["peak MB"]) < 2


@pytest.mark.parametrize("megabytes", [0, 200])
def test_peak_memory_is_the_process_own(megabytes):
    """This process, with torch in it, holds hundreds of megabytes."""
    code = f"from benchmarks.speed.children import peak_bytes; x = b'1' * ({megabytes} << 20); print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert megabytes << 20 <= int(done.stdout) < (megabytes + 60) << 20


def test_start_up_ends_with_the_first_frames(run):
    commands = startup.commands(run)
    words = [str(word) for word in commands["reroll sample, first frames in one step"]]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, check=True)
    assert done.stdout == b""  # the command itself would print the file's name
    assert not (run / "first.mp4").exists()
    assert startup.seconds_of(commands["reroll --help"]) > 0


def test_sizes(bench):
    (table,) = sizes.tables(replace(bench, recipes=("vae",)))
    (row,) = table.rows
    assert row["steps in 60 min"] > row["steps in 20 min"] > 0
    steps = 0.38 * 1200 / row["autoencoder s"] + 0.62 * 1200 / row["prior s"]
    assert row["steps in 20 min"] == pytest.approx(steps, abs=2)


def test_race(bench, tmp_path, monkeypatch):
    """Ours and the plain loop, in this process."""
    monkeypatch.setenv("REROLL_CACHE", "restored after the test")
    monkeypatch.setattr(loop, "preview", loop.preview)
    clips, place = [str(clip) for clip in bench.footage.clips], str(tmp_path / "run")
    mine = race.ours(clips, place, minutes=0.08, size=SIZE, model=MODEL, threads=1)
    assert mine["of"] == "training footage"
    assert all(mine["courses"][stage] and mine["steps"][stage] > 0 for stage in race.STAGES)
    for stage in race.STAGES:
        theirs = race.plain(place, stage, minutes=0.01, threads=1)
        assert theirs["steps"] > 0
        minutes = [at for at, _ in theirs["points"]]
        assert minutes == sorted(minutes)
        assert minutes[-1] >= 0.01


def test_minutes_needed():
    short = race.Course(1.0, [(0.5, 20.0), (1.0, 24.0)], 10)
    longer = race.Course(2.0, [(1.0, 22.0), (2.0, 30.0)], 20)
    assert race.minutes_needed([short], 22.0, 1) == pytest.approx(0.75)
    assert race.minutes_needed([short, longer], 27.0, 1) == pytest.approx(1.5)
    assert race.minutes_needed([short, longer], 31.0, 1) is None
    assert race.minutes_needed([short], 25.0, -1) == 0.5  # from its first examination on
    mine = {"autoencoder": short, "prior": race.Course(3.0, [(3.0, 0.2)], 10)}
    prior = race.Course(3.0, [(3.0, 0.3)], 10)
    rows = race.verdict_rows(mine, {"autoencoder": [longer], "prior": [prior]})
    assert rows[0]["plain needs minutes"] == pytest.approx(1.25)
    assert rows[0]["times as fast"] == pytest.approx(1.25)
    assert rows[1]["plain needs minutes"] == "not reached: 0.3 after 3"
    assert rows[1]["times as fast"] == "more than 1"
    assert rows[2]["times as fast"] == "more than 1.06"  # 4.25 minutes of 4


def test_tables_and_rounds():
    order: list[str] = []
    found = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [None, None], "b": [None, None]}
    shown = Table("T", [{"s": 0.12345, "n": 1234, "none": None, "rounds": [1.0]}], command="c").markdown()
    assert "| 0.123 | 1,234 |  |" in shown
    assert "rounds" not in shown
    assert figure(1234.5) == "1,234"


def test_command_line(monkeypatch, tmp_path, capsys):
    """`--what machine` prints its table with the command, and writes JSON."""
    out = tmp_path / "speed.json"
    given = "--rounds 1 --threads 1 --precision fp32 --products 64"
    words = ["speed", "--what", "machine", *given.split(), "-o", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    program.main()
    assert f"(`python -m benchmarks.speed --what machine {given}`)" in capsys.readouterr().out
    assert '"peak GFLOP/s"' in out.read_text()
