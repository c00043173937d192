"""Toy networks and toy footage for the tests here that train; those that do ask for `small`."""

import pytest
import toy


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Tiny networks and a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        toy.shrink(patch)
        patch.setenv("REROLL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return toy.write_footage(tmp_path_factory.mktemp("footage") / "clips")
