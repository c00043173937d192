"""Memory is told before it is taken."""

import time
from types import SimpleNamespace

import pytest
import toy

from reroll.errors import SpaceError
from reroll.footage import Span
from reroll.recipes import RECIPES
from reroll.training import budget, machine
from reroll.training.budget import Timing, make_plan
from reroll.training.engine import Engine
from reroll.training.footprint import needed_bytes
from reroll.training.trainer import Trainer


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return toy.write_footage(tmp_path_factory.mktemp("clips"))


def test_it_grows_with_frames_networks_and_precision():
    def needed(recipe="vaegan", model="m", height=64, width=64, precision="fp32"):
        return needed_bytes(recipe, model, height, width, precision)

    assert needed(model="s") < needed() < needed(model="l")
    assert needed(precision="bf16") < needed()
    assert needed("gan") < needed()
    assert needed(width=128) - needed(width=64) == pytest.approx(needed(width=192) - needed(width=128))
    assert 1e9 < needed() < 2e9  # python -m benchmarks.speed --what footprint


@pytest.mark.parametrize("budgeted", [{"steps": 4}, {"minutes": 0.1}])
def test_what_does_not_fit_is_refused_before_anything_is_allocated(footage, tmp_path, monkeypatch, budgeted):
    monkeypatch.setattr(Engine, "available_memory_bytes", lambda _: 3e8)
    monkeypatch.setattr(Trainer, "__init__", lambda *_: pytest.fail("networks were made"))
    with pytest.raises(
        SpaceError, match=r"needs about 0\.\d GB of memory and 0\.3 GB are free; give a smaller"
    ):
        toy.train(footage, tmp_path / "run", "vaegan", **({"steps": None} | budgeted))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_goes_on_only_where_it_fits(footage, tmp_path, monkeypatch):
    toy.train(footage, tmp_path / "run", "gan", steps=4)
    monkeypatch.setattr(Engine, "available_memory_bytes", lambda _: 3e8)
    with pytest.raises(SpaceError, match="are free"):
        toy.train(footage, tmp_path / "run", "gan", steps=4, add_minutes=0.1)


def test_a_smaller_model_is_chosen_where_a_larger_one_does_not_fit(monkeypatch):
    recipe, timed = RECIPES["vaegan"], []

    def timing(engine, recipe, model, *_):
        timed.append(model)
        return Timing(model, {stage.name: 1e-3 for stage in recipe.stages})

    monkeypatch.setattr(budget, "time_model", timing)
    engine, store, windows = (
        Engine.start("cpu", "fp32"),
        SimpleNamespace(height=64, width=64),
        SimpleNamespace(spans=[Span(0, 100)]),
    )

    def planned(free):
        monkeypatch.setattr(Engine, "available_memory_bytes", lambda _: free)
        return make_plan(
            engine, recipe, store, windows, fps=25.0, model="auto", seed=0, steps=None, seconds_left=600.0,
            mirror=False, started=time.monotonic(),
        ).model  # fmt: skip

    assert planned(16e9) == "l"
    timed.clear()
    assert planned(1.1e9) == "s"
    assert timed == ["s"], "one that does not fit was timed"
    with pytest.raises(SpaceError):
        planned(0.5e9)


def test_what_the_process_holds_is_available(monkeypatch):
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 0)
    assert (
        50 << 20
        < Engine.start("cpu").available_memory_bytes()
        == pytest.approx(machine.resident_bytes(), rel=0.1)
    )


def test_a_limit_of_address_space_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    free, before = machine.free_memory_bytes(), resource.getrlimit(resource.RLIMIT_AS)
    held = machine.psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (held + (500 << 20), before[1]))
    try:
        assert 300 << 20 < machine.free_memory_bytes() <= 500 << 20 < free
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_what_a_container_has_read_from_disk_is_free(monkeypatch):
    files = {
        "memory.max": "1000000000", "memory.current": "900000000",
        "memory.stat": "anon 300000000\nactive_file 200000000\ninactive_file 400000000",
    }  # fmt: skip
    monkeypatch.setattr(machine, "_cgroup", lambda name: files.get(name, ""))
    assert machine.free_memory_bytes() == min(700_000_000, machine.psutil.virtual_memory().available)
