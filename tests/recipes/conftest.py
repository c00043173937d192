"""Toy footage and one finished toy run of every recipe, made once."""

import pytest
import toy


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
