"""A run as one file: the same samples, nothing of the machine in it, and nothing that is made up is believed."""

import hashlib
import json
import os
import struct

import numpy as np
import pytest
import torch
import toy
from safetensors.torch import load_file, save_file
from toy import FPS

import reroll
from reroll.errors import CheckpointError, UsageError
from reroll.export.bundle import read_bundle, read_card
from reroll.recipes import RECIPES


@pytest.fixture(scope="session")
def bundles(runs, tmp_path_factory):
    """Recipe → its run as a bundle."""
    folder, made = tmp_path_factory.mktemp("bundles"), {}

    def bundle_of(recipe):
        if recipe not in made:
            made[recipe] = reroll.pack(runs(recipe), folder / f"{recipe}.reroll.safetensors")
        return made[recipe]

    return bundle_of


@pytest.fixture(params=sorted(RECIPES))
def recipe(request):
    return request.param


def test_it_samples_as_the_run_does(runs, bundles, recipe):
    one, other = reroll.load(runs(recipe)), reroll.load(bundles(recipe))
    assert other.model_sha256 == one.model_sha256
    options = {"seconds": 0.4, "seed": 3, "denoise_steps": 2}
    assert np.array_equal(one.sample(**options).frames, other.sample(**options).frames)
    assert other.fps == pytest.approx(FPS)


def test_tasks_and_again_take_it_for_the_run(bundles, take, tmp_path):
    clip = reroll.load(bundles("vae")).extend(take, 0.2, denoise_steps=2)
    made = clip.save(tmp_path / "longer.mp4")
    assert np.array_equal(reroll.again(made).frames, clip.frames)


def test_it_says_nothing_of_the_machines_folders(runs, bundles, recipe, footage):
    head = bundles(recipe).read_bytes()[:200_000].decode("latin-1")
    assert str(footage) not in head
    assert str(runs(recipe).parent) not in head
    assert "clip0.mp4" in head


def test_the_card_says_what_is_in_it(footage, tmp_path):
    toy.train(footage, tmp_path / "run", "gan", owner="Ada Lovelace", licence="CC-BY-4.0")
    card = read_card(reroll.pack(tmp_path / "run", tmp_path / "model.safetensors"))
    for words in (
        "`gan`",
        "Ada Lovelace",
        "CC-BY-4.0",
        "clip0.mp4",
        "no report when it was packed",
        "20 steps",
    ):
        assert words in card


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_it_can_be_read_by_whoever_may_read_other_files(bundles, tmp_path):
    other = tmp_path / "other"
    other.touch()
    assert bundles("gan").stat().st_mode == other.stat().st_mode


def test_a_name_without_the_ending_is_refused(runs, tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.reroll\.safetensors"):
        reroll.pack(runs("gan"), tmp_path / "model.zip")


def rewritten(path, target, *, change=lambda content: None, tensors=None):
    """The bundle with other content in its header, or other tensors."""
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    content = json.loads(json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]["reroll"])
    change(content)
    save_file(load_file(path) if tensors is None else tensors, target, {"reroll": json.dumps(content)})
    return target


CHANGES = {
    "a huge model": lambda content: content["record"]["model"].update(prior_width=4096, prior_depth=64),
    "another size": lambda content: content["record"]["model"].update(height=512),
    "a width that is none": lambda content: content["record"]["model"].update(prior_width=-3),
    "a field nobody knows": lambda content: content["record"].update(run_me="rm -rf /"),
    "another format": lambda content: content.update(format=999),
    "no step": lambda content: content.pop("step"),
    "no record": lambda content: content.pop("record"),
    "another recipe": lambda content: content["record"]["config"].update(recipe="lstm"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_header_that_lies_is_one_line(bundles, tmp_path, change):
    made = rewritten(bundles("vae"), tmp_path / "made.safetensors", change=CHANGES[change])
    with pytest.raises(CheckpointError, match=r"made\.safetensors: ") as caught:
        reroll.load(made)
    assert "\n" not in str(caught.value)


def test_tensors_that_are_missing_of_another_shape_or_not_finite_are_one_line(bundles, tmp_path):
    for change in (
        lambda tensors, name: tensors.pop(name),
        lambda tensors, name: tensors.update({name: tensors[name][:1].clone()}),
        lambda tensors, name: tensors.update({name: tensors[name].double()}),
        lambda tensors, name: tensors.update({name: tensors[name] * float("nan")}),
        lambda tensors, name: tensors.update({"more": tensors[name].clone()}),
    ):
        tensors = load_file(bundles("vae"))
        change(tensors, "decoder.enter.weight")
        made = rewritten(bundles("vae"), tmp_path / "made.safetensors", tensors=tensors)
        with pytest.raises(CheckpointError, match=r"made\.safetensors: "):
            reroll.load(made)


def test_a_model_of_an_older_version_is_what_it_was(bundles, tmp_path):
    """Bundles that were packed before models knew of a source's spread, and priors what is between given frames."""
    tensors = load_file(bundles("vae"))
    assert (tensors.pop("source_spread") < 1).any()
    assert tensors.pop("motion_prior.between").any()
    assert tensors.pop("early_prior.between").any()
    older = reroll.load(rewritten(bundles("vae"), tmp_path / "older.safetensors", tensors=tensors))
    assert older.sampler.model.source_spread.tolist() == [1, 0, 1]
    assert older.sample(0.2, denoise_steps=1).frames.shape[0] == round(0.2 * FPS)
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    assert older.model_sha256 == digest.hexdigest(), "what its samples were marked with"


def test_no_byte_of_a_broken_file_is_believed(bundles, tmp_path):
    whole = bundles("gan").read_bytes()
    for at in (0, 5, 8, 100, len(whole) // 2, len(whole) - 1):
        made = tmp_path / "made.safetensors"
        made.write_bytes(whole[:at])
        with pytest.raises(CheckpointError, match=r"made\.safetensors: "):
            read_bundle(made)
    (tmp_path / "made.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch x'\ntR.")
    with pytest.raises(CheckpointError, match="no bundle of reroll"):
        read_bundle(tmp_path / "made.safetensors")
    save_file({"a": load_file(bundles("gan"))["latent_mean"]}, tmp_path / "made.safetensors")
    with pytest.raises(CheckpointError, match="no bundle of reroll"):
        read_bundle(tmp_path / "made.safetensors")


def test_it_is_evaluated_like_a_run(bundles, footage):
    found = reroll.evaluate([bundles("gan")], footage, samples=3, seconds=2, long_seconds=0)
    assert found.keys() == {"gan.reroll.safetensors"}
