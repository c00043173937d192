"""Content credentials: what is signed is read back by C2PA's own reader, and what was changed since is not believed."""

import io
import json
import stat

import pytest
import toy
from footage_maker import moving_square
from toy import run_in

from reroll.errors import RerollError, UsageError
from reroll.export.clip import Clip
from reroll.export.formats import FORMATS, read_record
from reroll.export.provenance import LABEL, Identity, make_development_identity, sign, whence

c2pa = pytest.importorskip("c2pa")

RECORD = {"task": "sample", "options": {"seed": 3}, "numbers": [1, 2, 3], "words": "生成"}
FOOTAGE = {"owner": "Ada", "licence": "CC-BY-4.0", "files": [{"name": "a.mp4", "sha256": "00"}]}


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return make_development_identity(tmp_path_factory.mktemp("identity"))


def signed(folder, name, identity, record=RECORD):
    clip = Clip(moving_square(9, 48, 64), 25, record, footage=FOOTAGE)
    return clip.save(folder / f"clip{FORMATS[name].ending}", name, identity)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_signed_and_read_back(tmp_path, identity, name):
    found = whence(signed(tmp_path, name, identity))
    assert found.signed_by == "reroll development"
    assert found.problem is None
    assert not found.trusted
    assert found.source_type.endswith("digitalsourcetype/trainedAlgorithmicMedia")
    assert (found.record, found.footage) == (RECORD, FOOTAGE)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_changed_since_does_not_verify(tmp_path, identity, name):
    path = signed(tmp_path, name, identity)
    file = path / "frame-00003.png" if path.is_dir() else path
    content = bytearray(file.read_bytes())
    content[-60] ^= 1
    file.write_bytes(content)
    assert whence(path).problem is not None


def test_a_frame_that_was_taken_away_does_not_verify(tmp_path, identity):
    folder = signed(tmp_path, "png", identity)
    (folder / "frame-00008.png").unlink()
    assert whence(folder).problem is not None


@pytest.mark.parametrize("name", ["mp4", "gif", "webp", "prores", "sprite"])
def test_signed_files_still_hold_their_record_and_frames(tmp_path, identity, name):
    path = signed(tmp_path, name, identity)
    assert read_record(path) == RECORD


def test_c2pas_own_reader_agrees(tmp_path, identity):
    path = signed(tmp_path, "mp4", identity)
    with open(path, "rb") as file:
        reader = c2pa.Reader("video/mp4", io.BytesIO(file.read()))
    assert reader.get_validation_state() == "Valid"
    store = json.loads(reader.json())
    active = store["manifests"][store["active_manifest"]]
    assert active["claim_generator_info"][0]["name"] == "reroll"
    assert LABEL in [each["label"] for each in active["assertions"]]


@pytest.mark.parametrize(
    ("task", "kind"), [("extend", "compositeWithTrained"), ("retime", "algorithmicallyEnhanced")]
)
def test_what_keeps_footage_is_not_said_to_be_all_made(tmp_path, identity, task, kind):
    assert kind in whence(signed(tmp_path, "mp4", identity, RECORD | {"task": task})).source_type


def test_a_file_that_is_not_signed_says_what_its_record_does(tmp_path):
    path = Clip(moving_square(9), 25, RECORD).save(tmp_path / "clip.mp4")
    found = whence(path)
    assert (found.signed_by, found.problem) == (None, None)
    assert found.record == RECORD
    (tmp_path / "notes.txt").write_text("nothing")
    assert whence(tmp_path / "notes.txt").record == {}
    with pytest.raises(UsageError, match="no such file"):
        whence(tmp_path / "missing.mp4")


def test_the_key_is_its_owners_only(identity):
    assert stat.S_IMODE(identity.key.stat().st_mode) == 0o600


def test_certificates_that_cannot_be_used_are_one_line(tmp_path, identity):
    other = make_development_identity(tmp_path / "other")
    (tmp_path / "junk.pem").write_text("junk")
    for certificate, key in (
        (tmp_path / "junk.pem", identity.key), (identity.certificate, tmp_path / "junk.pem"),
        (identity.certificate, other.key),
    ):  # fmt: skip
        clip = Clip(moving_square(9), 25, RECORD)
        path = clip.save(tmp_path / "clip.mp4")
        with pytest.raises(UsageError, match="--sign: ") as caught:
            sign(path, RECORD, FOOTAGE, Identity(certificate, key))
        assert "\n" not in str(caught.value)


def test_who_signs_is_found_or_said_to_be_missing(tmp_path, identity):
    assert Identity.find(None, None, identity.key.parent) == identity
    with pytest.raises(UsageError, match="doctor --make-dev-cert"):
        Identity.find(None, None, tmp_path)
    with pytest.raises(UsageError, match="belong together"):
        Identity.find(identity.certificate, None, tmp_path)


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch, tmp_path, identity):
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    with pytest.raises(RerollError, match=r"pip install '\.\[export\]'"):
        signed(tmp_path, "mp4", identity)


def test_the_command_signs_and_says_whence(tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        toy.shrink(patch)
        patch.setenv("REROLL_CACHE", str(tmp_path / "cache"))
        patch.setenv("REROLL_CONFIG", str(tmp_path / "config"))
        toy.write_footage(tmp_path / "clips")
        toy.train(tmp_path / "clips", tmp_path / "run", "gan", steps=6, owner="Ada Lovelace", licence="CC0")
        code, _, said = run_in(tmp_path, "sample", "run", "--seconds", "0.2", "--sign", "-o", "a.mp4")
        assert code == 2
        assert "--make-dev-cert" in said
        assert not (tmp_path / "a.mp4").exists()
        assert run_in(tmp_path, "doctor", "--make-dev-cert")[0] == 0
        assert run_in(tmp_path, "sample", "run", "--seconds", "0.2", "--sign", "-o", "a.mp4")[0] == 0
        code, printed, _ = run_in(tmp_path, "whence", "a.mp4")
        assert code == 0
        for words in (
            "signed by reroll development",
            "trainedAlgorithmicMedia",
            "Ada Lovelace",
            "CC0",
            "clip0.mp4",
        ):
            assert words in printed
        content = bytearray((tmp_path / "a.mp4").read_bytes())
        content[-40] ^= 1
        (tmp_path / "a.mp4").write_bytes(content)
        code, printed, _ = run_in(tmp_path, "whence", "a.mp4")
        assert code == 1
        assert "does not verify" in printed
