"""The four trades: every command of their pages and every example runs, at toy size."""

import math
import os
import runpy
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from queue import Empty

import nbformat
import numpy as np
import pytest
import toy
from footage_maker import shaking, write_clip
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image
from test_readme import commands, options, run_all
from toy import FPS, HEIGHT, WIDTH

import reroll
from reroll.config import ModelConfig
from reroll.export.formats import read_record
from reroll.sampling.canvas import Canvas

HERE = Path(__file__).parent
PAGES = sorted((HERE.parent / "docs" / "trades").glob("*.md"))
EXAMPLES = HERE.parent / "examples"


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    toy.shrink(monkeypatch)
    monkeypatch.setenv("REROLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def take(tmp_path):
    return write_clip(tmp_path / "take.mp4", shaking(30, HEIGHT, WIDTH), fps=FPS)


@pytest.fixture
def actions(tmp_path):
    """Labelled footage."""
    for number, label in enumerate(("jump", "walk")):
        toy.write_footage(tmp_path / "actions" / label, seed=number)
    return tmp_path / "actions"


def run_example(monkeypatch, name, *words):
    """An example as its user starts it, with minutes that are steps and a short report."""
    train, report = reroll.train, reroll.report

    def few_steps(footage, output, *, recipe, minutes, size):
        return train(footage, output, recipe=recipe, steps=8, **toy.QUICK, **toy.silent())

    monkeypatch.setattr(reroll, "train", few_steps)
    monkeypatch.setattr(
        reroll, "report", lambda run: report(run, samples=3, seconds=2, long_seconds=0), raising=False
    )
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_there_is_a_page_and_an_example_of_each():
    trades = {"advertising", "film", "games", "teaching"}
    assert {page.stem for page in PAGES} == trades
    assert {path.stem for path in EXAMPLES.iterdir()} >= trades
    assert all((page.parent / name).exists() for page in PAGES for name in links(page)), (
        "links lead somewhere"
    )


@pytest.mark.parametrize("width", [86, 114])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_sizes_are_those_of_a_run_of_usual_size(page, width):
    run = ModelConfig(height=64, width=width, **toy.TINY)
    for words in commands(page.read_text(encoding="utf-8")):
        named, _ = options(words[1:])
        if words[0] != "train" and ("--size" in named or "--tile" in named):
            assert Canvas.of(run, named.get("--size"), named.get("--tile"))


def links(page):
    return [part.split(")")[0] for part in page.read_text(encoding="utf-8").split("](")[1:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_its_page_run(page, tmp_path, monkeypatch):
    place = tmp_path / "place"
    for number, label in enumerate(("jump", "walk")):
        toy.write_footage(place / "actions" / label, seed=number)
    run_all(page.read_text(encoding="utf-8"), place)


def test_film(monkeypatch, take, tmp_path):
    run_example(monkeypatch, "film.py", take, "--seconds", "0.4", "-o", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.mov")}
    assert names == {"longer-0.mov", "longer-1.mov", "longer-2.mov", "earlier.mov", "loop.mov", "slow.mov"}
    assert read_record(tmp_path / "out" / "earlier.mov")["options"]["backwards"] is True


def test_advertising(monkeypatch, take, tmp_path):
    run_example(monkeypatch, "advertising.py", take, "-o", tmp_path / "out")
    for name, width in (("wide", 56), ("square", 32), ("tall", 18)):
        assert len(list((tmp_path / "out" / name).glob("*.mp4"))) == 12
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            assert sheet.size == (6 * width, 12 * HEIGHT)
    strengths = [
        read_record(path)["options"]["strength"] for path in sorted((tmp_path / "out" / "wide").glob("*.mp4"))
    ]
    assert np.diff(strengths).min() > 0


def test_advertising_of_a_take_that_stands_upright(monkeypatch, tmp_path):
    upright = write_clip(tmp_path / "upright.mp4", shaking(10, 2 * WIDTH // 2 * 2, WIDTH), fps=FPS)
    run_example(monkeypatch, "advertising.py", upright, "-o", tmp_path / "out")
    for name, shape in (("wide", (64, 36)), ("square", (64, 64)), ("tall", (36, 64))):
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            assert sheet.size == (6 * shape[0], 12 * shape[1])


def test_games(monkeypatch, actions, tmp_path):
    run_example(monkeypatch, "games.py", actions, "--seconds", "1", "-o", tmp_path / "out")
    made = {path.name for path in (tmp_path / "out").glob("*.*")}
    assert made >= {"texture.gif", "texture.png", "texture.json", "jump.png", "walk.png", "walk.json"}
    assert read_record(tmp_path / "out" / "walk.png")["options"]["label"] == "walk"


class AttentiveChannel(AsyncZMQSocketChannel):
    """Looks for a reply twice a second.

    A widget's output is answered past the asyncio socket that waits for the cell's reply; a reply that is there by
    then wakes nobody (jupyter_client, pull request 1059, open), and is found when the cell's time is over.
    """

    async def get_msg(self, timeout=None):
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(0.5, left))
            except Empty:
                if not left:
                    raise


class AttentiveClient(AsyncKernelClient):
    shell_channel_class = AttentiveChannel


class AttentiveManager(AsyncKernelManager):
    client_factory = AttentiveClient


@pytest.mark.skipif(find_spec("ipywidgets") is None, reason="needs .[notebook]")
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
@pytest.mark.timeout(600)
def test_the_notebook_runs_from_its_first_cell_to_its_last(take, tmp_path, monkeypatch):
    """In a kernel of its own, as Jupyter would; only its numbers are a toy's."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "teaching.ipynb", as_version=4)
    nbformat.validate(notebook)
    begin = next(number for number, cell in enumerate(notebook.cells) if "MINUTES = 5" in cell.source)
    notebook.cells.insert(
        begin + 1,
        nbformat.v4.new_code_cell(
            "import pytest, toy\n"
            "toy.shrink(pytest.MonkeyPatch())\n"
            f"FOOTAGE = {str(take)!r}\n"
            "train, report = reroll.train, reroll.report\n"
            "def few_steps(footage, output, *, recipe, minutes):\n"
            "    train(footage, output, recipe=recipe, steps=8, **toy.QUICK, **toy.silent())\n"
            "reroll.train = few_steps\n"
            "reroll.report = lambda run, **options: report(run, samples=3, seconds=2, long_seconds=0)\n"
        ),
    )
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        kernel_manager_class=AttentiveManager,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("<video" in str(output.get("data", {}).get("text/html", "")) for output in shown) >= 3
    widgets = [
        output for output in shown if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    ]
    assert len(widgets) == 2, "the explorer and the variations have sliders"
    inside = [
        output for state in notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
        for output in state["state"].get("outputs", [])
    ]  # fmt: skip
    assert sum("<video" in str(output.get("data", {}).get("text/html", "")) for output in inside) == 2, inside
