"""Reports of other runs: read and checked before anything is sampled, one clear line when they cannot be."""

import json
from pathlib import Path

import pytest

import reroll
from reroll.errors import UsageError
from reroll.evaluation.comparison import FORMAT, beside, read_report, read_reports


def numbers(title="a", flow=1.0, comparable="same", **judgement):
    """What a `report.json` holds, as far as a comparison goes, and a little more."""
    interval = {"median": flow, "low": 0.9 * flow, "high": 1.1 * flow}
    return {
        "format": FORMAT,
        "title": title,
        "recipe": "vae",
        "comparable": comparable,
        "verdict": "The samples move.",
        "judgement": {
            "basis": "footage",
            "motion_ratio": 1.0,
            "detail": {"space": 0.8, "time": 0.9},
            "originality": {"copy_rate": None, "threshold": None},
            "reconstruction": {"psnr_db": None, "ssim": 1.0},
            "distances": [{"space": "flow", "frechet": interval, "multiple": None, "windows": 12}],
        }
        | judgement,
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(path):
    """The line `report --compare` ends with; the run does not exist, which would be another error."""
    with pytest.raises(UsageError) as caught:
        reroll.report("no-such-run", compare=[path])
    line = str(caught.value)
    assert line.startswith(f"--compare {path}: ")
    assert "\n" not in line
    return line


def test_a_report_is_read_from_its_folder_or_by_its_name(place):
    (place / "run").mkdir()
    (place / "run" / "report.json").write_text(json.dumps(numbers()))
    assert read_report(place / "run") == read_report(place / "run" / "report.json")
    assert read_report(place / "run").standing().distances["flow"].high == pytest.approx(1.1)


@pytest.mark.parametrize(
    "content",
    [b"not a report", b"\x00\xff\xfe film", b"[1, 2]", b"{}", b"", b"[" * 200_000, b'"judgement"'],
    ids=["words", "bytes", "list", "empty object", "nothing", "nested", "string"],
)
def test_any_other_file_is_refused_before_anything_is_sampled(place, content):
    (place / "film.mp4").write_bytes(content)
    assert "that is no report; give a run's folder" in refused("film.mp4")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "report.json is damaged; make it again with `reroll report run`"),
        (json.dumps({"format": FORMAT}), "report.json is damaged; make it again"),
        (json.dumps(numbers() | {"format": 1}), "another version of reroll; make it again"),
        (json.dumps(numbers(motion_ratio="much")), "damaged at judgement.motion_ratio; make it again"),
        (json.dumps(numbers(detail=None)), "damaged at judgement.detail; make it again"),
        (json.dumps(numbers(distances=[{"space": "flow"}])), "damaged at judgement.distances.0.frechet"),
    ],
)
def test_a_damaged_report_of_a_run_is_refused(place, content, said):
    (place / "run").mkdir()
    (place / "run" / "report.json").write_text(content)
    assert said in refused("run")


def test_a_run_without_a_report_is_refused(place):
    (place / "run").mkdir()
    assert "no report there; make it with `reroll report run`" in refused("run")


def test_only_runs_measured_alike_are_compared(place):
    for name, flow, comparable in (("b", 2.0, "same"), ("c", 0.1, "other")):
        (place / f"{name}.json").write_text(json.dumps(numbers(name, flow, comparable)))
    table = beside(numbers(), [read_report(place / "b.json"), read_report(place / "c.json")])
    assert [(row.run.title, row.same, row.nearest) for row in table.rows] == [
        ("a", True, ("flow",)),
        ("b", True, ()),
        ("c", False, ()),
    ]
    assert table.sentence.startswith("a did best")
    assert beside(numbers(), []) is None


def test_runs_of_one_name_are_told_apart(place):
    for folder, title in (("old", "stream"), ("other", "flower")):
        (place / folder / title).mkdir(parents=True)
        (place / folder / title / "report.json").write_text(json.dumps(numbers(title)))
    reports = read_reports([Path("old/stream"), Path("other/flower")], "stream")
    assert [report.title for report in reports] == ["old/stream", "flower"]
