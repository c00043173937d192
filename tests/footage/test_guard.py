"""Decoding in a child process: what happens to it is one line, and the next file is decoded."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from footage_maker import moving_square, write_clip

from reroll.errors import FootageError
from reroll.footage import guard
from reroll.footage.decode import LocalDecoder
from reroll.footage.guard import Decoder, decode, probe, read_sound
from reroll.footage.sound import RATE

BROKEN = """
import os, time
from reroll.footage import child

class Broken(child.LocalDecoder):
    def __iter__(self):
        for number, frame in enumerate(super().__iter__()):
            if number == 3 and self.path.name == "bad.mp4":
                {fault}
            yield frame

    def __exit__(self, *rest):
        super().__exit__(*rest)
        if self.path.name == "closes-badly.mp4":
            os.abort()

child.LocalDecoder, child.MOST_BYTES, child.MOST_CPU_SECONDS = Broken, 2 << 30, 1
answers = os.dup(1)
child.main()
"""
FAULTS = {
    "aborts": ("os.abort()", "crashed on it .SIGABRT"),
    "ends": ("os._exit(3)", "crashed on it .exit code 3"),
    "computes without end": ("while True: pass", "takes too long"),
    "waits without end": ("time.sleep(1000)", "takes too long"),
    "grows": ("held = bytearray(3 << 30)", "takes too much memory"),
    "answers nonsense": ("os.write(answers, b'[]\\n')", "does not answer as it should"),
}


@pytest.fixture
def fresh(monkeypatch):
    """No child from before; those that are made here end here."""
    monkeypatch.setattr(guard, "_idle", [])
    yield monkeypatch
    for child in guard._idle:
        child.end()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", moving_square(20))


def test_large_frames_do_not_pile_up_in_the_child(fresh, tmp_path):
    """PyAV's side data and its frame hold on to each other: 50 MB a file."""
    still = write_clip(tmp_path / "8k.mp4", np.zeros((1, 4320, 7680, 3), np.uint8))
    held = []
    for _ in range(5):
        assert sum(1 for _ in decode(still)) == 1
        list(decode(still))  # answered when the one before is cleared away
        held.append(psutil.Process(guard._idle[0]._process.pid).memory_info().rss >> 20)
    assert held[-1] - held[0] < 100, held


def test_frames_are_those_of_this_process(clip):
    for halved_to in (None, 16):
        with LocalDecoder(clip) as here:
            expected = list(here)
        found = list(decode(clip, halved_to))
        assert [frame.timestamp for frame in found] == [frame.timestamp for frame in expected]
        if halved_to is None:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one.image, other.image)
        else:
            assert {min(frame.image.shape[:2]) for frame in found} == {24}, "48 halved once, not below 16"


@pytest.mark.skipif(os.name == "nt", reason="limits are POSIX")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_becomes_of_the_child_is_one_line(clip, fresh, fault):
    what, words = FAULTS[fault]
    program = BROKEN.replace("{fault}", what)
    bad = clip.with_name("bad.mp4")
    bad.write_bytes(clip.read_bytes())
    fresh.setattr(guard, "COMMAND", [sys.executable, "-P", "-c", program])
    fresh.setattr(guard, "MOST_SECONDS", 8.0 if fault == "waits without end" else 20.0)
    decoded = []
    with pytest.raises(FootageError, match=words) as raised:
        decoded.extend(decode(bad))
    assert len(decoded) == 3
    assert "bad.mp4" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(list(decode(clip))) == 20, "the next file has a child"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_child_is_one_line_and_the_next_file_has_another(clip, fresh):
    with Decoder(clip) as decoder:
        frames = iter(decoder)
        next(frames)
        os.kill(decoder._opened._child._process.pid, signal.SIGKILL)
        with pytest.raises(FootageError, match=r"clip\.mp4: the decoder crashed on it .SIGKILL"):
            list(frames)
    assert len(list(decode(clip))) == 20


def test_what_dies_of_closing_a_file_is_not_given_the_next(clip, fresh):
    fresh.setattr(guard, "COMMAND", [sys.executable, "-P", "-c", BROKEN.replace("{fault}", "pass")])
    bad = clip.with_name("closes-badly.mp4")
    bad.write_bytes(clip.read_bytes())
    assert len(list(decode(bad))) == 20
    assert guard._idle == []
    assert len(list(decode(clip))) == 20


@pytest.mark.parametrize("after", range(1, 30, 3))
def test_ctrl_c_leaves_no_child_with_half_an_answer(clip, fresh, after):
    """Wherever it hits, the next file is read as ever."""
    calls = 0

    def interrupted(self, *arguments, original=guard.Child.ask):
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with fresh.context() as patch:
        patch.setattr(guard.Child, "ask", interrupted)
        try:
            list(decode(clip))
        except KeyboardInterrupt:
            assert guard._idle == []
        else:
            assert calls < after
    assert len(list(decode(clip))) == 20
    assert probe(clip).width == 64


def test_a_closed_file_touches_no_child(clip, fresh):
    with Decoder(clip) as decoder:
        frames = iter(decoder)
        next(frames)
    (child,) = guard._idle
    with Decoder(clip) as other:
        assert other._opened._child is child
        decoder._opened.close()
        frames.close()
        with pytest.raises(ValueError, match="closed"):
            list(decoder)
        assert len(list(other)) == 20


def test_a_child_that_waits_long_ends(clip, fresh):
    fresh.setattr(guard, "KEPT_SECONDS", 1.0)
    fresh.setattr(guard, "TICK_SECONDS", 0.1)
    assert probe(clip).width == 64
    (child,) = guard._idle
    until = time.monotonic() + 30
    while guard._idle and time.monotonic() < until:
        time.sleep(0.05)
    assert guard._idle == []
    child._process.wait(10)
    assert probe(clip).width == 64


def test_a_sound_that_begins_minutes_later_begins_after_silence(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "late.mkv", moving_square(20), audio_seconds=1.0)
    whole = np.concatenate(list(read_sound(path)), 1)
    delayed = subprocess.run(
        [sys.executable, "-c", DELAYED, str(path), str(tmp_path / "delayed.mkv")], check=True, timeout=60
    )
    assert delayed.returncode == 0
    late = np.concatenate(list(read_sound(tmp_path / "delayed.mkv")), 1)
    assert late.shape[1] - whole.shape[1] == pytest.approx(120 * RATE, abs=0.1 * RATE)
    assert not late[:, : 119 * RATE].any()


def test_a_fault_of_ours_is_not_taken_for_one_of_the_file(clip, fresh):
    program = BROKEN.replace("{fault}", "raise RuntimeError('planted')")
    fresh.setattr(guard, "COMMAND", [sys.executable, "-P", "-c", program])
    bad = clip.rename(clip.with_name("bad.mp4"))
    with pytest.raises(RuntimeError, match="planted"):
        list(decode(bad))


def test_a_child_is_used_again_and_left_halfway(clip, fresh):
    with Decoder(clip) as decoder:
        next(iter(decoder))
        assert decoder.seek(0.0)
        assert len(list(decoder)) == 20
    (child,) = guard._idle
    first = next(decode(clip))
    assert first.timestamp == 0
    assert guard._idle == [child]
    with Decoder(clip) as one, Decoder(clip) as other:
        assert len(list(zip(one, other, strict=True))) == 20, "two files at once have a child each"
    with pytest.raises(FootageError):
        probe(clip.with_name("missing.mp4"))
    assert len(list(decode(clip))) == 20
    assert len(guard._idle) == 2


def test_the_folder_may_change(clip, fresh, monkeypatch):
    assert probe(clip).width == 64
    monkeypatch.chdir(clip.parent)
    assert len(list(decode(clip.name))) == 20
    with pytest.raises(FootageError, match=r"no such file or folder: other\.mp4;"):
        probe("other.mp4")


DELAYED = """
import sys, av
with av.open(sys.argv[1]) as given, av.open(sys.argv[2], "w") as made:
    streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
    for packet in given.demux():
        if packet.dts is None:
            continue
        if packet.stream.type == "audio":
            packet.pts += int(120 / packet.time_base)
            packet.dts += int(120 / packet.time_base)
        packet.stream = streams[packet.stream.index]
        made.mux(packet)
"""
PARENT = """
import sys, time
from reroll.footage import guard
decoder = guard.Decoder(sys.argv[1])
next(iter(decoder))
print(decoder._opened._child._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_a_child_ends_with_its_parent(clip):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(clip)], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    with suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(10)
