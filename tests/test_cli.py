"""The command: what is wrong is said in one line with its exit code, and nothing is left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from footage_maker import shaking, write_audio_only, write_clip
from toy import run_in

from reroll import cli
from reroll.__main__ import main as start
from reroll.errors import UsageError
from reroll.export.formats import FORMATS, read_record, sidecar
from reroll.footage import read_clip
from reroll.training.run import read_record as read_run


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        toy.shrink(patch)
        patch.setenv("REROLL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "10000")  # rich wraps notes
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Footage, a finished run of each kind that matters, and files that are no footage."""
    place = tmp_path_factory.mktemp("place")
    toy.write_footage(place / "clips")
    (place / "notes.mp4").write_text("this is not a film\n")
    (place / "notes.txt").write_text("nor is this\n")
    (place / "empty").mkdir()
    (place / "folder.mp4").mkdir()
    (place / "damaged" / "checkpoints").mkdir(parents=True)
    (place / "damaged" / "run.json").write_text('{"format": 1')
    write_audio_only(place / "sound.mp4")
    for recipe in ("gan", "vae"):
        code, _, error = run_in(
            place, "train", "clips", "-o", recipe, "--recipe", recipe, *QUICK, "--steps", "6"
        )
        assert code == 0, error
    return place


QUICK = ("--size", "32", "--threads", "1", "--precision", "fp32")


def everything(folder):
    """Folders by name, files by when they were written."""
    return {path: path.is_dir() or path.stat().st_mtime_ns for path in folder.rglob("*")}


TRAIN = ("-o", "new/run", *QUICK, "--steps", "6")
BAD = [
    (3, "missing.mp4", ["train", "missing.mp4", *TRAIN]),
    (3, "notes.mp4", ["train", "notes.mp4", *TRAIN]),
    (3, "notes.txt", ["train", "notes.txt", *TRAIN]),
    (3, "sound.mp4", ["train", "sound.mp4", *TRAIN]),
    (3, "empty", ["train", "empty", *TRAIN]),
    (2, "minutes", ["train", "clips", "-o", "new/run", "--minutes", "0"]),
    (2, "minutes", ["train", "clips", "-o", "new/run", "--minutes", "-5"]),
    (2, "minutes", ["train", "clips", "-o", "new/run", "--minutes", "nan"]),
    (2, "minutes", ["train", "clips", "-o", "new/run", *QUICK, "--minutes", "0.001"]),
    (2, "minutes", ["train", "clips", "-o", "new/run", "--minutes", "inf"]),
    (2, "--add-minutes", ["train", "clips", "-o", "new/run", "--add-minutes", "-3"]),
    (2, "-o clips", ["train", "clips", "-o", "clips", *QUICK, "--steps", "6"]),
    (2, "notes.txt", ["train", "missing.mp4", "-o", "notes.txt/run"]),
    (2, "--steps", ["train", "clips", "-o", "new/run", "--steps", "0"]),
    (2, "--steps 5.5: give a whole", ["train", "clips", "-o", "new/run", "--steps=5.5"]),
    (2, "--size 64.5: give a whole", ["train", "clips", "-o", "new/run", "--size", "64.5"]),
    (2, "--steps", ["train", "clips", *TRAIN, "--minutes", "1"]),
    (2, "--size", ["train", "clips", *TRAIN, "--size", "8"]),
    (2, "--size", ["train", "clips", *TRAIN, "--size", "big"]),
    (2, "--size", ["train", "missing.mp4", *TRAIN, "--size", "33"]),  # said before any footage is read
    (2, "--size", ["train", "clips", *TRAIN, "--size", "auto"]),
    (2, "--seed", ["train", "clips", *TRAIN, "--seed", "-1"]),
    (2, "--seed", ["train", "clips", *TRAIN, "--seed", "9" * 20]),
    (2, "--threads", ["train", "clips", *TRAIN, "--threads", "0"]),
    (2, "--recipe", ["train", "clips", *TRAIN, "--recipe", "diffusion"]),
    (2, "--device", ["train", "clips", *TRAIN, "--device", "abacus"]),
    (2, "--precision", ["train", "clips", *TRAIN, "--precision", "fp7"]),
    (2, "--epochs", ["train", "clips", *TRAIN, "--epochs", "5"]),
    (4, "nothing", ["train", "clips", *TRAIN, "--init", "nothing"]),
    (2, "output", ["train", "clips"]),
    (2, "--seed", ["train", "clips", "-o", "gan", "--recipe", "gan", *QUICK, "--steps", "6", "--seed", "3"]),
    (2, "", ["train"]),
    (3, "missing.mp4", ["inspect", "missing.mp4"]),
    (3, "notes.mp4", ["inspect", "notes.mp4", "--json"]),
    (3, "give video files", ["inspect", "empty"]),
    (2, "minutes", ["inspect", "clips", "--minutes", "0"]),
    (2, "--verbosely", ["inspect", "clips", "--verbosely"]),
    (4, "nothing", ["sample", "nothing", "-o", "out"]),
    (4, "clips", ["sample", "clips", "-o", "out"]),
    (4, "damaged", ["sample", "damaged", "-o", "out"]),
    (4, "run.json", ["sample", "clips/clip0.mp4", "-o", "out"]),
    (4, "gan/run.json: that is a file", ["sample", "gan/run.json", "-o", "out"]),
    (2, "--seed", ["sample", "gan", "-o", "out", "--seed", "many"]),
    (2, "--seed", ["sample", "gan", "-o", "out", "--seed", "-3"]),
    (2, "--seed", ["sample", "gan", "-o", "out", "--seed", "9-3"]),
    (2, "--seed", ["sample", "gan", "-o", "out", "--seed", "1-"]),
    (2, "--seed", ["sample", "gan", "-o", "out", "--seed", "99999999999999999999"]),
    (2, "--count", ["sample", "gan", "-o", "out", "--count", "0"]),
    (2, "--count 1.5: give a whole", ["sample", "gan", "-o", "out", "--count", "1.5"]),
    (2, "--denoise-steps 2.5: give a whole", ["sample", "gan", "-o", "out", "--denoise-steps", "2.5"]),
    (2, "--label", ["sample", "gan", "-o", "out", "--label", "cat"]),
    (2, "--seconds", ["sample", "gan", "-o", "out", "--seconds", "0"]),
    (2, "--seconds", ["sample", "gan", "-o", "out", "--seconds", "long"]),
    (2, "--fps", ["sample", "gan", "-o", "out", "--fps", "0"]),
    (2, "out.avi", ["sample", "gan", "-o", "out.avi"]),
    (2, "out.mp4", ["sample", "gan", "-o", "out.mp4", "--count", "2"]),
    (2, "notes.txt", ["sample", "gan", "-o", "notes.txt"]),
    (2, "notes.txt/", ["sample", "gan", "-o", "notes.txt/out"]),
    (2, "folder.mp4 is a folder", ["sample", "gan", "-o", "folder.mp4"]),
    (2, "--slowly", ["sample", "gan", "-o", "out", "--slowly"]),
    (2, "--loop", ["sample", "gan", "-o", "out", "--loop", "--seconds", "0.08"]),
    (4, "nothing", ["extend", "nothing", "clips/clip0.mp4", "-o", "longer.mp4"]),
    (3, "spelling", ["extend", "vae", "missing.mp4", "-o", "longer.mp4"]),
    (3, "a folder, not a file", ["extend", "vae", "empty", "-o", "longer.mp4"]),
    (3, "notes.mp4", ["extend", "vae", "notes.mp4", "-o", "longer.mp4"]),
    (3, "sound.mp4", ["extend", "vae", "sound.mp4", "-o", "longer.mp4"]),
    (2, "the take itself", ["extend", "vae", "clips/clip0.mp4", "-o", "clips/../clips/clip0.mp4"]),
    (2, "longer.mkv", ["extend", "vae", "clips/clip0.mp4", "-o", "longer.mkv"]),
    (2, "--format gif", ["extend", "vae", "clips/clip0.mp4", "-o", "longer.mp4", "--format", "gif"]),
    (2, "50 frames", ["sample", "gan", "-o", "fast.gif", "--fps", "60"]),
    (2, "encoder", ["extend", "gan", "clips/clip0.mp4", "-o", "longer.mp4"]),
    (2, "--seconds", ["extend", "vae", "clips/clip0.mp4", "-o", "longer.mp4", "--seconds", "-2"]),
    (2, "--fps", ["extend", "vae", "clips/clip0.mp4", "-o", "longer.mp4", "--fps", "0"]),
    (2, "--guidance", ["extend", "vae", "clips/clip0.mp4", "-o", "longer.mp4", "--guidance", "-1"]),
    (2, "--tile z", ["sample", "gan", "--tile", "z"]),
    (2, "--size 12", ["sample", "gan", "--size", "12"]),
    (2, "--size 130x72", ["sample", "gan", "--size", "130x72"]),
    (2, "--size 44x32", ["sample", "gan", "--size", "44x32", "--tile", "x"]),
    (2, "--label", ["sample", "gan", "--label", "walk@0,run@3s"]),
    (2, "--seeds", ["explore", "gan", "--seeds", "3"]),
    (2, "one clip", ["explore", "gan", "--seeds", "1,3", "--count", "3"]),
    (2, "--seed banana", ["retime", "gan", "clips/clip0.mp4", "--seed", "banana"]),
    (2, "--seed", ["explore", "gan", "--seeds", "3,many"]),
    (2, "encoder", ["inbetween", "gan", "clips/clip0.mp4", "clips/clip0.mp4"]),
    (3, "missing.mp4", ["inbetween", "vae", "clips/clip0.mp4", "missing.mp4"]),
    (2, "encoder", ["loop", "gan", "clips/clip0.mp4"]),
    (2, "--seconds", ["loop", "vae", "clips/clip0.mp4", "--seconds", "0"]),
    (2, "--slow 0", ["retime", "gan", "clips/clip0.mp4", "--slow", "0"]),
    (2, "--fps", ["retime", "gan", "clips/clip0.mp4", "--fps", "1000"]),
    (3, "missing.mp4", ["retime", "gan", "missing.mp4"]),
    (2, "--strength 2", ["vary", "vae", "clips/clip0.mp4", "--strength", "2"]),
    (2, "encoder", ["vary", "gan", "clips/clip0.mp4"]),
    (2, "--mask", ["repaint", "vae", "clips/clip0.mp4"]),
    (3, "missing.png", ["repaint", "vae", "clips/clip0.mp4", "--mask", "missing.png"]),
    (2, "--look", ["swap", "vae", "--motion", "clips/clip0.mp4"]),
    (4, "nothing", ["pack", "nothing"]),
    (2, "safetensors", ["pack", "gan", "-o", "gan.zip"]),
    (2, "--onnx", ["export", "gan"]),
    (2, "missing.mp4: no such file", ["whence", "missing.mp4"]),
    (2, "belong together", ["sample", "gan", "--key", "notes.txt"]),
    (2, "missing.mp4: no such file", ["again", "missing.mp4"]),
    (2, "holds no record of reroll", ["again", "clips/clip0.mp4"]),
    (2, "notes.mp4: holds no record", ["again", "notes.mp4"]),
    (4, "nothing", ["report", "nothing"]),
    (2, "--samples", ["report", "gan", "--samples", "0"]),
    (2, "--seconds", ["report", "gan", "--seconds", "0.5"]),
    (2, "--long-seconds", ["report", "gan", "--long-seconds", "1"]),
    (2, "--footage", ["evaluate", "gan"]),
    (3, "missing", ["evaluate", "gan", "--footage", "missing"]),
    (3, "missing", ["evaluate", "missing", "--footage", "clips"]),
    (2, "out.txt", ["evaluate", "gan", "--footage", "clips", "-o", "out.txt"]),
    (2, "--compare vae", ["report", "gan", "--compare", "vae"]),
    (2, "--compare notes.txt: that is no report", ["report", "gan", "--compare", "notes.txt"]),
    (2, "--compare vae", ["report", "gan", "--compare", "vae", "nothing"]),
    (2, "dance", ["dance"]),
]


@pytest.mark.parametrize(("code", "named", "arguments"), BAD, ids=[" ".join(row[2])[:60] for row in BAD])
def test_what_is_wrong_is_one_line(place, code, named, arguments):
    before = everything(place)
    found, printed, said = run_in(place, *arguments)
    assert found == code, said
    assert printed == ""
    lines = [
        line
        for line in said.splitlines()
        if not line.startswith(("note: ", "reading ", "looking at ", "skipped"))
    ]
    assert len(lines) == 1, said
    assert lines[0].startswith("reroll: ")
    assert named in lines[0]
    assert "Traceback" not in said
    assert "Errno" not in said
    assert everything(place) == before, "nothing is left behind"


def test_an_output_that_is_a_file_is_said(place):
    (place / "taken").write_text("a file")
    for arguments in (
        ["train", "clips", "-o", "taken", *QUICK, "--steps", "6"],
        ["sample", "gan", "-o", "taken"],
    ):
        code, _, said = run_in(place, *arguments)
        assert code in range(1, 8), said
        assert "taken" in said.splitlines()[-1]
        assert said.splitlines()[-1].startswith("reroll: ")
    assert (place / "taken").read_text() == "a file"


@pytest.mark.parametrize(
    ("text", "count", "seeds"),
    [("3", 1, [3]), ("3", 3, [3, 4, 5]), ("0-3", 1, [0, 1, 2, 3]), ("7-7", 1, [7])],
)
def test_seeds(text, count, seeds):
    assert cli.parse_seeds(text, count) == seeds


@pytest.mark.parametrize(
    ("text", "count"), [("", 1), ("a", 1), ("-1", 1), ("1-2-3", 1), ("1-4", 2), ("²", 1)]
)
def test_seeds_that_are_none(text, count):
    with pytest.raises(UsageError, match="--seed"):
        cli.parse_seeds(text, count)


@pytest.mark.parametrize("recipe", ["gan", "vae"])
def test_a_seed_alone_equals_its_place_in_a_range(place, tmp_path, recipe):
    usual = ("--seconds", "0.4", "--denoise-steps", "2", "--threads", "1")
    code, printed, said = run_in(
        place, "sample", recipe, "--seed", "0-3", "-o", str(tmp_path / "all"), *usual
    )
    assert (code, said) == (0, "")
    files = sorted((tmp_path / "all").glob("*.mp4"))
    assert [Path(line) for line in printed.split()] == files
    assert len(files) == 4
    assert run_in(place, "sample", recipe, "--seed", "3", "-o", str(tmp_path / "one.mp4"), *usual)[0] == 0
    assert (tmp_path / "one.mp4").read_bytes() == files[3].read_bytes()
    assert (
        run_in(place, "sample", recipe, "--seed", "2", "--count", "2", "-o", str(tmp_path / "two"), *usual)[0]
        == 0
    )
    assert [path.read_bytes() for path in sorted((tmp_path / "two").glob("*.mp4"))] == [
        path.read_bytes() for path in files[2:]
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("task", ["sample", "extend"])
def test_an_output_is_made_again_frame_for_frame(place, tmp_path, format, task):
    made = tmp_path / f"made{FORMATS[format].ending}"
    options = (
        "--seconds",
        "0.4",
        "--seed",
        "5",
        "--fps",
        "20",
        "--denoise-steps",
        "2",
        "--temperature",
        "0.9",
    )
    words = ["sample", "vae"] if task == "sample" else ["extend", "vae", "clips/clip0.mp4"]
    folder = tmp_path if FORMATS[format].ending == "" else made
    code, printed, said = run_in(place, *words, *options, "--format", format, "-o", str(folder))
    assert (code, said) == (0, "")
    made = Path(printed.strip())
    code, printed, said = run_in(place, "again", str(made))
    assert (code, said) == (0, "")
    once_more = Path(printed.strip())
    assert once_more.name == f"{made.stem}-again{made.suffix}"
    assert contents(once_more) == contents(made)


def contents(output):
    """The bytes of a file, or of all files in a folder."""
    return (
        [path.read_bytes() for path in sorted(output.iterdir())] if output.is_dir() else output.read_bytes()
    )


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_the_record_and_a_sidecar(place, tmp_path, format):
    code, printed, said = run_in(
        place, "sample", "gan", "--seconds", "0.4", "--seed", "5", "--format", format, "-o", str(tmp_path)
    )
    assert (code, said) == (0, "")
    (path,) = map(Path, printed.split())
    assert path.name == f"gan-sample-00005{FORMATS[format].ending}"
    assert read_record(path) == json.loads(sidecar(path).read_text())
    assert read_record(path)["options"]["seed"] == 5


def test_frames_and_rate_are_as_asked(place, tmp_path):
    code, _, _ = run_in(
        place, "sample", "gan", "--seconds", "1.5", "--fps", "24", "--loop", "-o", str(tmp_path / "a.mp4")
    )
    assert code == 0
    frames, times = read_clip(tmp_path / "a.mp4", 32, 44)
    assert len(frames) == 36
    assert times[-1] == pytest.approx(35 / 24, abs=1e-3)


def test_a_folder_may_have_a_dot_in_its_name(place, tmp_path):
    folder = tmp_path / "clips.v1.2"
    code, out, said = run_in(place, "sample", "gan", "-o", str(folder), "--seconds", "0.2", "--count", "1")
    assert code == 0, said
    assert out.split() == [str(path) for path in folder.glob("*.mp4")]


def test_extend(place, tmp_path):
    take = write_clip(tmp_path / "take.mp4", shaking(20, 32, 44), fps=25)
    code, printed, said = run_in(
        place, "extend", "vae", str(take), "--seconds", "0.4", "-o", str(tmp_path / "longer.mp4"),
        "--denoise-steps", "2", "--guidance", "2",
    )  # fmt: skip
    assert (code, said) == (0, "")
    assert read_record(tmp_path / "longer.mp4")["options"]["guidance"] == 2
    assert printed.strip() == str(tmp_path / "longer.mp4")
    assert len(read_clip(tmp_path / "longer.mp4", 32, 44)[0]) == 30


def test_extend_says_what_is_cropped(place, tmp_path):
    take = write_clip(tmp_path / "tall.mp4", shaking(12, 64, 44), fps=25)
    code, _, said = run_in(
        place, "extend", "vae", str(take), "--seconds", "0.2", "-o", str(tmp_path / "longer.mp4"),
        "--denoise-steps", "2",
    )  # fmt: skip
    assert (code, said.count("\n")) == (0, 1)
    assert said.startswith("note: tall.mp4 is 44x64, the run 44x32: 50% of its height is cropped")


def test_inspect_prints_json_and_nothing_else(place):
    code, printed, _ = run_in(place, "inspect", "clips", "notes.txt", "sound.mp4", "--json", "--minutes", "5")
    assert code == 0
    found = json.loads(printed)
    assert found["suggestion"]["minutes"] == 5
    assert found["footage"]["shots"] >= 1
    assert {Path(file["path"]).name for file in found["footage"]["files"]} == {"clip0.mp4"}
    assert all(item["reason"] for item in found["footage"]["skipped"])
    assert printed.isascii() or json.loads(printed.encode()) == found


def test_inspect_for_people(place):
    code, printed, said = run_in(place, "inspect", "clips")
    assert (code, said) == (0, "")
    assert "clip0.mp4" in printed
    assert "--size" in printed
    assert "model " in printed
    assert "not mirrored: the scene is fixed" in printed
    assert "direction: none" in printed, "a square that swings to and fro"


def test_inspect_says_the_same_of_many_files_once(tmp_path):
    for number in range(9):
        write_clip(tmp_path / f"clip{number}.mp4", shaking(30, 32, 44, seed=number), fps=25)
    code, printed, _ = run_in(tmp_path, "inspect", ".")
    assert code == 0
    assert printed.count("only 44x32 pixels") == 1
    assert "clip0.mp4, clip1.mp4, clip2.mp4, clip3.mp4 and 5 more: only 44x32 pixels" in printed


def test_train_again_goes_on_or_says_it_is_done(place):
    code, _, said = run_in(place, "train", "clips", "-o", "gan", "--recipe", "gan", *QUICK, "--steps", "6")
    assert code == 0
    assert "finished" in said


def test_size_auto_is_what_inspect_suggests_and_stays(place, tmp_path):
    suggested = json.loads(run_in(place, "inspect", "clips", "--json", "--minutes", "0.1")[1])["suggestion"]
    assert suggested["model"] in ("s", "m", "l")
    command = (
        "train",
        "clips",
        "-o",
        str(tmp_path / "run"),
        "--size",
        "auto",
        "--minutes",
        "0.1",
        "--threads",
        "1",
    )
    code, _, said = run_in(place, *command)
    assert code == 0, said
    record = read_run(tmp_path / "run")
    assert record.config.size == suggested["size"] != 64
    assert (record.model.width, record.model.height) == (suggested["width"], suggested["height"])
    code, _, said = run_in(place, *command)
    assert (code, "finished" in said) == (0, True), said


def test_help_and_version():
    code, printed, _ = run_in(Path(), "--help")
    assert code == 0
    for verb in ("inspect", "train", "sample", "extend", "report", "evaluate", "doctor"):
        assert verb in printed
    assert run_in(Path(), "--version")[1].strip().count(".") == 2


def test_doctor_runs_in_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "reroll.cli", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "torch" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_console_without_unicode_shows_what_it_can(tmp_path, options):
    name = "Bäche×\udcff.mp4"  # a letter, a sign, and a byte that is no text
    write_clip(tmp_path / "plain.mp4", shaking(20, 32, 44), fps=25).rename(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "reroll.cli", "inspect", ".", *options],
        cwd=tmp_path, capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    printed = done.stdout.decode("ascii")
    assert json.loads(printed)["footage"]["files"][0]["path"] == name if options else "B\\xe4che" in printed


def test_ctrl_c_anywhere_is_one_line(place, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("reroll.generator.load", interrupted)
    code, _, said = run_in(place, "sample", "gan", "-o", "out")
    assert code == 130
    assert said.count("\n") == 1


def test_ctrl_c_while_loading_is_one_line(tmp_path, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("reroll.import_module", interrupted)  # torch, once a verb needs it
    assert run_in(tmp_path, "inspect", ".") == (130, "", "reroll: stopped.\n")


def test_ctrl_c_while_the_command_is_loaded_is_one_line(monkeypatch, capsys):
    class Loading:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "reroll.cli", Loading())
    with pytest.raises(SystemExit) as end:
        start()
    assert (end.value.code, capsys.readouterr().err) == (130, "reroll: stopped.\n")


def test_a_signal_while_something_is_cleared_away_prints_no_traceback(monkeypatch, capsys):
    class Ending:
        def __init__(self, fault):
            self.fault = fault

        def __del__(self):
            raise self.fault

    monkeypatch.setattr(sys, "unraisablehook", cli._tell_unraisable)
    for fault, said in ((KeyboardInterrupt(2), False), (ValueError("spilt milk"), True)):
        gone = Ending(fault)
        del gone
        assert ("spilt milk" in capsys.readouterr().err) is said
