"""ONNX: what onnxruntime finds is what PyTorch finds, at batches and lengths it was not exported with."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy import FPS, HEIGHT, WIDTH, run_in

import reroll
from reroll.errors import RerollError, UsageError
from reroll.export import deploy
from reroll.recipes import RECIPES

onnxruntime = pytest.importorskip("onnxruntime")
EXAMPLE = Path(__file__).parents[2] / "examples" / "sample_onnx.py"


@pytest.fixture(scope="session")
def exported(runs, tmp_path_factory):
    """Recipe → its run as ONNX."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def folder_of(recipe):
        if recipe not in made:
            made[recipe] = reroll.export_onnx(runs(recipe), folder / recipe)
        return made[recipe]

    return folder_of


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_network_finds_what_pytorch_finds(runs, exported, recipe):
    folder, model = exported(recipe), reroll.load(runs(recipe)).sampler.model
    networks = {"motion_prior": model.motion_prior}
    if RECIPES[recipe].has_encoder:
        networks["early_prior"] = model.early_prior
    for name, network in networks.items():
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        for batch, length in ((1, 3), (5, 7), (2, 16)):
            given = deploy._inputs(model, batch, length)
            names = [each.name for each in session.get_inputs()]
            found = session.run(None, dict(zip(names, (each.numpy() for each in given), strict=True)))[0]
            with torch.no_grad():
                assert np.abs(found - network(*given).numpy()).max() < 1e-4
    latents = torch.randn(2, 4, *model.latent_shape)
    frames = onnxruntime.InferenceSession(folder / "decoder.onnx").run(None, {"latents": latents.numpy()})[0]
    assert frames.shape == (2, 4, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        assert np.abs(frames - model.decode(latents).numpy()).max() < 1e-4


@pytest.mark.parametrize("recipe", ["vae", "vaegan"])
def test_the_example_samples_without_pytorch(exported, tmp_path, monkeypatch, recipe):
    assert "torch" not in EXAMPLE.read_text().replace("PyTorch", "")
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(exported(recipe)), str(tmp_path / "out.gif")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    about = json.loads((exported(recipe) / "model.json").read_text())
    gap = round(about["key_gap_seconds"] * FPS)
    with Image.open(tmp_path / "out.gif") as image:
        assert image.size == (WIDTH, HEIGHT)
        assert image.n_frames > 0.8 * gap * (about["window_frames"] - 1)


def test_what_is_not_the_same_is_not_written(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, "MOST_APART", 0.0)
    with pytest.raises(RerollError, match="from PyTorch"):
        reroll.export_onnx(runs("gan"), tmp_path / "onnx")
    assert not list((tmp_path / "onnx").iterdir())


def test_the_command(runs, exported, tmp_path):
    code, _, said = run_in(tmp_path, "export", str(runs("gan")))
    assert code == 2
    assert "--onnx" in said
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="give a folder"):
        reroll.export_onnx(runs("gan"), tmp_path / "file")
