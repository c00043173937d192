"""Toy footage and one finished toy run of every recipe, made once."""

import pytest
import toy
from footage_maker import shaking, write_clip


@pytest.fixture(scope="session", autouse=True)
def small(tmp_path_factory):
    """Tiny networks and a cache of their own for everything in this folder."""
    with pytest.MonkeyPatch.context() as patch:
        toy.shrink(patch)
        patch.setenv("REROLL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    return toy.write_footage(tmp_path_factory.mktemp("footage") / "clips")


@pytest.fixture(scope="session")
def runs(footage, tmp_path_factory):
    """Recipe → a run of toy.STEPS steps that was never stopped; trained when first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run_of(recipe):
        if recipe not in made:
            toy.train(footage, folder / recipe, recipe)
            made[recipe] = folder / recipe
        return made[recipe]

    return run_of


@pytest.fixture(scope="session")
def take(tmp_path_factory):
    frames = shaking(30, toy.HEIGHT, toy.WIDTH, seed=0)
    return write_clip(tmp_path_factory.mktemp("take") / "take.mp4", frames, fps=toy.FPS)
