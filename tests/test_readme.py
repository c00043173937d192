"""The README's commands run: every `reroll` line of its bash blocks, in order, at toy size, in an empty folder.

The words are kept, the sizes are not: minutes become steps, footage that is named is made, a run that no
command before trained is trained. As written, every command must also be one that the parser takes.
"""

import re
import shlex
from pathlib import Path

import pytest
import toy
from footage_maker import shaking, write_clip, write_picture
from toy import FPS, HEIGHT, WIDTH, run_in

from reroll.cli import app
from reroll.errors import UsageError
from reroll.sampling.labels import Labels
from reroll.training.run import read_record

README = Path(__file__).parent.parent / "README.md"
VIDEO, PICTURE = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".gif"}, {".png", ".jpg", ".jpeg"}
STEPS = "8"
TOY = {"--size": "32", "--steps": STEPS, "--denoise-steps": "2", "--samples": "3", "--device": "cpu"}
ON_TAKES = "extend", "inbetween", "loop", "retime", "vary", "repaint", "swap", "explore"
MOST = {"--seconds": 1.0, "--count": 2.0}


def commands(text):
    """The `reroll` commands of the bash blocks of a Markdown text, as lists of words without the program."""
    found = []
    for block in re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;|\|", line.strip().removeprefix("$ ")):
                words = shlex.split(part.split(">")[0], comments=True)
                if words and Path(words[0]).name == "reroll":
                    found.append(words[1:])
    return found


def options(words):
    """Option → its value, and the words that belong to none. A flag has the value None, `--compare` a list."""
    named, rest, waiting = {}, [], None
    for word in words:
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            waiting = "--output" if name == "-o" else name
            named[waiting] = value if equals else None
        elif waiting in ("--compare", "--footage"):
            named[waiting] = [*(named[waiting] or []), word]
        elif waiting is not None and waiting not in ("--loop", "--json", "--backwards", "--onnx"):
            named[waiting], waiting = word, None
        else:
            rest.append(word)
    return named, rest


def shrink(verb, named, rest):
    """The same command at toy size."""
    named = {
        name: TOY.get(name, value) if isinstance(value, str) and "x" not in value else value
        for name, value in named.items()
    }
    if "x" in (named.get("--size") or ""):  # a frame of that shape
        width, height = map(int, named["--size"].split("x"))
        named["--size"] = f"{min(2 * WIDTH, max(16, round(20 * width / height / 2) * 2))}x20"
    for name, most in MOST.items():
        if name in named:
            named[name] = f"{min(most, float(named[name])):g}"
    if "--seed" in named and "-" in named["--seed"]:
        first = int(named["--seed"].split("-")[0])
        named["--seed"] = f"{first}-{first + 1}"
    if verb == "train":
        named = {name: value for name, value in named.items() if name not in ("--minutes", "--add-minutes")}
        named |= {"--size": "32", "--steps": STEPS, "--precision": "fp32", "--threads": "1"}
    elif verb in ("sample", *ON_TAKES) and verb != "retime":
        named.setdefault("--denoise-steps", "2")
    elif verb in ("report", "evaluate"):
        named = {"--samples": "3", "--seconds": "2", "--long-seconds": "4"} | named
    words = [verb, *rest]
    for name, value in named.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        words += [name, *values]
    return words


def prepare(place, verb, named, rest):
    """Make the footage a command names, and the run it starts from, unless an earlier command did."""
    given = [named[name] for name in ("--mask", "--look", "--motion") if name in named]
    runs, footage = {
        "sample": (rest[:1], []),
        **dict.fromkeys(ON_TAKES, (rest[:1], [*rest[1:], *given])),
        **dict.fromkeys(("report", "pack", "export"), (rest[:1], [])),
        "evaluate": (rest, named.get("--footage", [])),
    }.get(verb, ([], rest))
    for name in footage:
        make_footage(place / name)
    for name in [*runs, *([named["--init"]] if "--init" in named else [])]:
        if not (place / name / "run.json").exists():
            toy.write_footage(place / "footage-of-the-test")
            command = shrink("train", {"--output": name}, ["footage-of-the-test"])
            assert run_in(place, *command)[0] == 0
    if "--label" in named:
        try:
            Labels.parse(named["--label"], read_record(place / runs[0]).model.labels)
        except UsageError:  # the run that was made for it has no labels
            named.pop("--label")


def make_footage(path):
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in PICTURE:
        picture = shaking(1, HEIGHT, WIDTH)[0]
        picture[:10, :10] = 255  # it may be a mask
        write_picture(path, picture)
    elif path.suffix.lower() in VIDEO:
        codec = {".gif": ("gif", "rgb8"), ".mpg": ("mpeg2video", "yuv420p"), ".webm": ("libvpx", "yuv420p")}
        codec_name, pix_fmt = codec.get(path.suffix.lower(), ("libx264", "yuv420p"))
        write_clip(path, shaking(50, HEIGHT, WIDTH), fps=FPS, codec=codec_name, pix_fmt=pix_fmt)
    else:
        toy.write_footage(path, clips=2)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    toy.shrink(monkeypatch)
    monkeypatch.setenv("REROLL_CACHE", str(tmp_path / "cache"))


def run_all(text, place):
    place.mkdir(exist_ok=True)
    for words in commands(text):
        command = " ".join(["reroll", *words])
        assert "$" not in command, f"{command}: the test does not know the value"
        app.parse_args(words, exit_on_error=False, print_error=False)
        if not words or words[0].startswith("-"):
            code, printed, said = run_in(place, *words)
            assert code == 0, said
            continue
        verb, (named, rest) = words[0], options(words[1:])
        prepare(place, verb, named, rest)
        code, printed, said = run_in(place, *shrink(verb, named, rest))
        assert code == 0 or (verb == "doctor" and code == 1), f"{command}:\n{said}"
        assert "Traceback" not in said
        if "--output" in named:
            assert (place / named["--output"]).exists(), command
        assert printed or said, f"{command} says nothing"


def test_the_readme_runs(tmp_path):
    text = README.read_text(encoding="utf-8")
    if not commands(text):
        pytest.skip("README.md has no bash block that calls reroll")
    assert {words[0] for words in commands(text) if words} >= {"train", "sample"}
    run_all(text, tmp_path / "place")


def test_the_readmes_library_runs(tmp_path, monkeypatch):
    [block] = re.findall(
        r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    toy_block = block.replace("minutes=20", f"steps={STEPS}, size=32, threads=1").replace(
        "seconds=10", "seconds=1"
    )
    assert toy_block.count("size=32") == toy_block.count("seconds=1") == 1
    make_footage(tmp_path / "footage.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(toy_block, str(README), "exec"), {})
    assert (tmp_path / "out" / "stream.mp4").stat().st_size > 0


def test_commands_are_found_as_they_are_written():
    text = """
```bash
pip install reroll && reroll doctor
$ reroll train my\\ film.mp4 "b c.mov" \\
    -o runs/a --minutes=20   # twenty minutes
reroll inspect clips --json > seen.json
.venv/bin/reroll --version
```
```python
reroll.load("runs/a")
```
```
reroll train FOOTAGE...
```
"""
    assert commands(text) == [
        ["doctor"],
        ["train", "my film.mp4", "b c.mov", "-o", "runs/a", "--minutes=20"],
        ["inspect", "clips", "--json"],
        ["--version"],
    ]
    named, rest = options(commands(text)[1][1:])
    assert (named, rest) == ({"--output": "runs/a", "--minutes": "20"}, ["my film.mp4", "b c.mov"])
    named_too, rest_too = options(["report", "runs/a", "--compare", "runs/b", "runs/c", "--samples", "4"][1:])
    assert (named_too, rest_too) == ({"--compare": ["runs/b", "runs/c"], "--samples": "4"}, ["runs/a"])
    small = shrink("train", named, rest)
    assert "--minutes" not in small
    assert small[:3] == ["train", "my film.mp4", "b c.mov"]
    assert shrink("sample", {"--seed": "4-31", "--seconds": "600", "--loop": None}, ["a"]) == [
        "sample", "a", "--seed", "4-5", "--seconds", "1", "--loop", "--denoise-steps", "2",
    ]  # fmt: skip
