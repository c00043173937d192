"""Whatever is in a bundle, a checkpoint's manifest or a run.json: one line of ours, or what was saved."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reroll.errors import CheckpointError
from reroll.export.bundle import KEY, pack, read_bundle
from reroll.training import checkpoint
from reroll.training.run import read_record

GOLDEN = max((Path(__file__).parent / "golden").iterdir())
REUSED = [HealthCheck.function_scoped_fixture]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def refused(read, path):
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@settings(max_examples=100, suppress_health_check=REUSED)
@given(header=JSON, record=JSON, length=st.none() | st.integers(0, 2**64 - 1), body=st.binary(max_size=40))
@example(header=[{"\n": None}], record=None, length=None, body=b"")  # safetensors repeats the line break
def test_no_made_up_bundle_is_read(tmp_path, header, record, length, body):
    content = header if isinstance(header, dict) else {"header": header}
    text = json.dumps(content | {"__metadata__": {"reroll": json.dumps(record)}}).encode()
    path = tmp_path / "made.reroll.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    refused(read_bundle, path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return pack(GOLDEN, tmp_path_factory.mktemp("bundle") / "golden.reroll.safetensors")


def places(content, here=()):
    """Of all values in nested dictionaries and lists."""
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for name, value in inner:
        yield (*here, name)
        yield from places(value, (*here, name))


@settings(max_examples=100, suppress_health_check=REUSED)
@given(data=st.data(), value=JSON | st.integers(-(2**70), 2**70))
def test_a_bundle_of_which_one_value_was_changed_is_read_or_refused(bundle, tmp_path, data, value):
    with safe_open(bundle, "pt") as file:
        content = json.loads(file.metadata()[KEY])
    *outer, last = data.draw(st.sampled_from(list(places(content))))
    owner = content
    for name in outer:
        owner = owner[name]
    owner[last] = value
    made = tmp_path / "made.reroll.safetensors"
    save_file(load_file(bundle), made, {KEY: json.dumps(content)})
    with suppress(CheckpointError):
        _, model, _ = read_bundle(made)
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())
        return
    refused(read_bundle, made)


@settings(max_examples=100, suppress_health_check=REUSED)
@given(content=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_no_made_up_run_is_read(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_record(tmp_path)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, suppress_health_check=REUSED)
@given(
    name=st.sampled_from(["manifest.json", "state.json", "weights.safetensors"]),
    at=st.floats(0, 1, exclude_max=True),
    put=st.binary(min_size=1, max_size=5),
    removed=st.integers(0, 9),
)
def test_every_edit_of_a_checkpoint_is_refused(tmp_path_factory, name, at, put, removed):
    root = tmp_path_factory.mktemp("checkpoints")
    path = checkpoint.save(root, 7, {"weights": {"a": torch.arange(9.0)}}, {"stage": 1})
    whole = (path / name).read_bytes()
    begin = int(at * len(whole))
    edited = whole[:begin] + put + whole[begin + removed :]
    (path / name).write_bytes(edited)
    if edited == whole:
        assert checkpoint.load(path).step == 7
    else:
        refused(checkpoint.load, path)
