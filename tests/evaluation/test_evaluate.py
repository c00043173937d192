"""Videos from anywhere against any footage: clean ones are about one null away, spoilt ones are told from them."""

import json

import numpy as np
import pytest
import torch
from footage_maker import write_clip

import reroll
from reroll.errors import UsageError
from reroll.evaluation.evaluate import row

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, moving_textures):
    """Clips of one kind in two folders, and the second's standing still in a third."""
    place = tmp_path_factory.mktemp("evaluate")
    clips = moving_textures(10, frames=40, height=32, width=32, seed=1)
    for number, clip in enumerate(clips):
        folder = place / ("footage" if number < 6 else "made")
        folder.mkdir(exist_ok=True)
        write_clip(folder / f"{number}.mkv", clip, fps=20)
    (place / "still").mkdir()
    for number, clip in enumerate(clips[6:]):
        write_clip(place / "still" / f"{number}.mkv", np.repeat(clip[:1], 40, axis=0), fps=20)
    return place


@pytest.fixture(scope="module")
def judged(folders, few_draws):
    return reroll.evaluate(
        [folders / "made", folders / "still"], folders / "footage", size=32, output=folders / "figures.json"
    )


def test_clean_videos_are_nearer_than_spoilt_ones(judged):
    multiples = {name: {d.space: d.multiple for d in j.distances} for name, j in judged.items()}
    assert list(multiples) == ["made", "still"]
    for space in ("flow", "differences"):
        assert multiples["made"][space] < 0.2 * multiples["still"][space]
    alarms = {name: {alarm.name for alarm in j.alarms if alarm.raised} for name, j in judged.items()}
    assert "freeze" in alarms["still"]
    assert "freeze" not in alarms["made"]


def test_all_are_measured_against_halves_of_the_footage_given(judged):
    for judgement in judged.values():
        assert "halves of which are the null" in judgement.basis
        assert not judgement.on_training_footage
        assert all(d.frechet_null is not None for d in judgement.distances)


def test_figures_are_written_as_json_and_as_a_row(folders, judged):
    figures = json.loads((folders / "figures.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert list(figures["judgements"]) == ["made", "still"]
    assert figures["judgements"]["still"]["motion_ratio"] < 0.1
    cells = row(judged["still"])
    assert cells["loop"] == cells["PSNR"] == "–"
    assert "freeze" in cells["alarms"]


def test_footage_too_short_to_compare_with_is_refused(folders, tmp_path, moving_textures):
    write_clip(tmp_path / "short.mkv", moving_textures(1, frames=10, height=32, width=32)[0], fps=20)
    with pytest.raises(UsageError, match="17 frames"):
        reroll.evaluate([folders / "made"], tmp_path / "short.mkv", size=32)
    with pytest.raises(UsageError, match="its shortest video"):
        reroll.evaluate([tmp_path / "short.mkv"], folders / "footage", size=32)


class Detector(torch.nn.Module):
    """Called as the published I3D file is; its features are mean colours."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert not rescale
        assert not resize
        assert return_features
        return torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4))], 1)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_fvd_is_measured_with_the_users_network_only(folders, judged, tmp_path):
    assert all("FVD" not in {d.space for d in j.distances} for j in judged.values())
    torch.jit.script(Detector()).save(str(tmp_path / "i3d.pt"))
    found = reroll.evaluate([folders / "made"], folders / "footage", size=32, i3d=tmp_path / "i3d.pt")
    assert "FVD" in {d.space for d in found["made"].distances}
    (tmp_path / "no.pt").write_text("nothing")
    with pytest.raises(UsageError, match="--i3d"):
        reroll.evaluate([folders / "made"], folders / "footage", size=32, i3d=tmp_path / "no.pt")
