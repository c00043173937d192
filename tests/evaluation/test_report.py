"""The page stands alone, escapes everything, tells what it was measured on; its numbers are valid JSON."""

import base64
import json
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from reroll.evaluation.charts import DotRow, dot_chart, line_chart
from reroll.evaluation.comparison import read_report
from reroll.evaluation.nearest import Place, TrainingFootage
from reroll.evaluation.report import FootageNote, ReportInput, make_report, plain

NASTY = "<script>alert('x')</script> & \"quotes\" 生成"


pytestmark = pytest.mark.usefixtures("few_draws")


class Page(HTMLParser):
    """Tags with their attributes; fails on tags that are closed in another order than opened."""

    VOID = frozenset({"meta", "br", "img", "link", "circle", "line", "rect", "polyline"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def given(tmp_path_factory, moving_textures, few_draws):
    train = moving_textures(9, seed=1)
    metrics = [
        {"step": i, "stage": "prior", "flow": 1 / (i + 1), "bad": float("nan"), "note": NASTY}
        for i in range(30)
    ]
    metrics[3]["flow"] = None
    return ReportInput(
        run_dir=tmp_path_factory.mktemp("run"),
        title=NASTY,
        recipe="vaegan",
        settings={"model": {"name": NASTY, "width": 256}, "minutes": 20},
        fps=12.5,
        samples=moving_textures(3, frames=24, seed=3),
        train_windows=train,
        heldout_windows=moving_textures(8, seed=2),
        split_reason="By clip: two of nine are held out.",
        metrics=metrics,
        events=[{"event": "nonfinite", "step": 3, "words": NASTY, "loss": float("inf")}],
        health=["prior: learning"],
        footage_files=[FootageNote(NASTY, "ab" * 32), FootageNote("b.mp4", "cd" * 32, "CC0")],
        commands=[f"reroll train '{NASTY}'"],
        loop=train[0],
        rebuilt=(train[:2], train[:2]),
        rebuilt_of="held-out footage",
        places=[Place(NASTY, float(i)) for i in range(9)],
    )


@pytest.fixture(scope="module")
def page(given):
    return Page(make_report(given).read_text("utf-8"))


def test_the_page_loads_nothing(given, page):
    text = (given.run_dir / "report.html").read_text("utf-8")
    for _, attrs in page.tags:
        for name in ("src", "href", "poster", "xlink:href", "data"):
            assert attrs.get(name, "data:").startswith("data:")
    assert not re.search(r"@import|url\(|https?://", text)


def test_nothing_becomes_markup(given, page):
    text = (given.run_dir / "report.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert len(page.all("script")) == 1
    assert "&lt;script&gt;alert" in text
    assert "生成" in text


def test_every_clip_is_playable_h264(page):
    videos = page.all("video")
    # 6 of footage, 3 samples, 1 loop, 3 pairs, 2 pairs of reconstructions
    assert len(videos) == 6 + 3 + 1 + 2 * 3 + 2 * 2
    for video in (videos[0], videos[6], videos[9]):
        assert {"autoplay", "loop", "muted", "playsinline", "poster"} <= set(video)
        assert base64.b64decode(video["src"].split(",")[1])[4:8] == b"ftyp"


def test_samples_play_at_the_rate_asked(page, tmp_path):
    path = tmp_path / "sample.mp4"
    path.write_bytes(base64.b64decode(page.all("video")[6]["src"].split(",")[1]))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 12.5
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_the_page_says_what_matters(given):
    text = (given.run_dir / "report.html").read_text("utf-8")
    for words in (
        "Measured on 3 samples of 1.9 s: distances against 8 held-out windows, which the model never saw",
        "Nearest footage",
        "in multiples of clean footage",
        "By clip: two of nine are held out.",
        "Left, held-out footage; right",
        "PSNR",
        "model.width",
        "CC0",
        "not given",
        "Not measured:",
    ):
        assert words in text, words
    assert "On training footage" not in text


def test_numbers_are_valid_json_without_nan(given, page):
    numbers = json.loads((given.run_dir / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert numbers["format"] == 3
    assert numbers["comparison"] is None
    assert numbers["verdict"].startswith("The samples move")
    assert len(numbers["judgement"]["distances"]) == 4
    assert numbers["judgement"]["reconstruction"]["psnr_db"] is None  # identical: infinite
    assert len(numbers["judgement"]["originality"]["nearest"]["distance"]) == 6


def test_other_runs_stand_beside_and_foreign_ones_are_grey(given, page, tmp_path):
    report = json.loads((given.run_dir / "report.json").read_text("utf-8"))
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps(report | {"title": "elsewhere", "comparable": "other"}), "utf-8")
    for distance in report["judgement"]["distances"]:
        distance["frechet"] = {"median": 0.125, "low": 0.1, "high": 0.15}
    report["judgement"]["motion_ratio"] = 1.0
    report["judgement"]["originality"]["copy_rate"] = 0.0
    near = tmp_path / "near.json"
    near.write_text(json.dumps(report | {"title": "nearer"}), "utf-8")
    values = {f: getattr(given, f) for f in given.__dataclass_fields__}
    again = ReportInput(
        **values | {"run_dir": tmp_path, "other_runs": [read_report(near), read_report(foreign)]}
    )
    text = make_report(again).read_text("utf-8")
    Page(text)
    assert "Beside other runs" in text
    assert text.count('<tr class="soft"><td>') == 1
    assert text.count("<b>0.125</b>") == 4
    said = json.loads((tmp_path / "report.json").read_text("utf-8"))["comparison"]
    assert said.startswith("nearer did best")
    assert text.index("<b>nearer did best") < text.index("<th>run</th>")


def test_a_mirrored_copy_is_shown_as_what_it_is(given, tmp_path):
    train = given.train_windows
    searched = TrainingFootage.of_windows(
        train, [Place("lake.mp4", number + 0.5) for number in range(9)], mirrored=True
    )
    values = {f: getattr(given, f) for f in given.__dataclass_fields__}
    values |= {"run_dir": tmp_path, "samples": train[:4, :, :, ::-1], "searched": searched}
    text = make_report(ReportInput(**values)).read_text("utf-8")
    for number in range(4):
        assert f"lake.mp4, {number}.5 s, mirrored · 0.0 levels apart" in text
    assert text.count('class="pair copy"') == 4
    assert "Distances to mirrored footage: half of what was trained on was flipped" in text


def test_on_training_footage_is_marked(given, tmp_path):
    values = {f: getattr(given, f) for f in given.__dataclass_fields__}
    bare = {"heldout_windows": given.heldout_windows[:0], "loop": None, "rebuilt": None, "places": None}
    bare |= {"metrics": (), "events": (), "health": (), "commands": (), "run_dir": tmp_path}
    text = make_report(ReportInput(**values | bare)).read_text("utf-8")
    Page(text)
    assert "On training footage" in text
    assert "in multiples of" not in text
    assert "There are no metrics to draw." in text


def test_names_need_not_be_unicode(given, tmp_path):
    values = {f: getattr(given, f) for f in given.__dataclass_fields__}
    make_report(ReportInput(**values | {"run_dir": tmp_path, "title": "stra\udcdfe 生成"}))
    assert "stra\\udcdfe 生成" in (tmp_path / "report.html").read_text("utf-8")
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["title"] == "stra\udcdfe 生成"


def test_a_line_chart_leaves_out_what_is_not_finite():
    chart = line_chart("a<b", range(5), [1.0, float("nan"), float("inf"), 2.0, 3.0])
    assert "a&lt;b" in chart
    assert "nan" not in chart
    assert "inf" not in chart
    assert line_chart("one", [0], [1.0]) == ""
    assert "polyline" in line_chart("flat", [0, 1], [2.0, 2.0])


def test_dots_lie_in_the_order_of_their_values():
    row = DotRow("flow", 10.0, 8.0, 12.0, (0.8, 1.3), {"blurred": 2.0, "frozen": 100.0})
    chart = dot_chart([row], "axis")
    dot = float(re.search(r'class="dot" cx="([\d.]+)"', chart)[1])
    marks = [float(x) for x in re.findall(r'class="mark" x1="([\d.]+)"', chart)]
    assert marks[0] < dot < marks[1]
    assert dot_chart([], "axis") == ""


def test_plain_values():
    assert plain({"a": np.float32("nan"), "b": np.arange(2), "c": np.bool_(True)}) == {
        "a": None,
        "b": [0, 1],
        "c": True,
    }
