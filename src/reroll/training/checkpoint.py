"""Checkpoints: directories of safetensors and JSON, written whole or not at all, and verified when read.

    checkpoints/
      step-00000120/
        manifest.json        version, step, finite? planned? and for every file its length and SHA-256
        state.json           whatever is not a tensor
        <stem>.safetensors   one file a group: weights, ema, optimizer, ...
      step-00000140/
      step-00000160.tmp-…    being written (or left by a kill: swept at the next start)

A checkpoint is written beside its final place, every file synced, then renamed: at every instant it is
there completely or not at all. No format notices a flipped bit by itself (safetensors loaded 590 of 600
damaged files without a word), hence the hashes; the manifest has to be byte for byte what it says it is.
Nothing is ever unpickled. Which is newest is decided by the step, never by a clock.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from reroll.errors import NO_SPACE, CheckpointError, one_line
from reroll.training.disk import full_disk_is_said, require_space, space_error

FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
_STRAY = re.compile(r"step-[\d.]+\.(tmp|gone)-[0-9a-f]+")
RENAME_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 0.5)
Report = Callable[[str], None]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint whose every byte was verified."""

    path: Path
    step: int
    finite: bool
    planned: bool
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    root: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    finite: bool = True,
    planned: bool = True,
) -> Path:
    """Write a checkpoint and drop old ones: the last `keep` stay, and the last one to go back to.

    Args:
        root: The directory of checkpoints.
        step: The steps done so far; saving one step twice keeps the second, without touching the first.
        tensors: File stem → name → tensor.
        state: What JSON can hold.
        keep: How many of the newest stay.
        finite: False marks weights from which nobody should go on; found out from the weights as well.
        planned: False marks one made because of a signal or the clock: going back to it after a fault would make
            what follows depend on them.

    Raises:
        SpaceError: The disk does not suffice; what was there before is untouched.
    """
    if keep < 1:
        raise ValueError("keep at least one checkpoint")
    finite = finite and all(
        bool(torch.isfinite(t).all()) for group in tensors.values() for t in group.values()
    )
    files = {f"{stem}.safetensors": _serialised(group) for stem, group in tensors.items()}
    files["state.json"] = _json(state)
    files["manifest.json"] = _manifest(step, finite, planned, files)
    with full_disk_is_said(root, root.name):
        root.mkdir(parents=True, exist_ok=True)
    require_space(root, sum(map(len, files.values())), f"the checkpoint of step {step}")
    final = _free_name(root, step)
    temporary = root / f"{final.name}.tmp-{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        for name, content in files.items():
            _write(temporary / name, content)
        _sync_directory(temporary)
        _rename(temporary, final)
        _sync_directory(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno in NO_SPACE:
            needed = sum(map(len, files.values()))
            raise space_error(
                root, needed, f"the checkpoint of step {step}", error.strerror or str(error)
            ) from error
        raise CheckpointError(f"{final}: cannot be written ({error.strerror}).") from error
    _purge(root, keep)
    return final


def load(path: Path) -> Loaded:
    """Read a checkpoint, verifying the length and SHA-256 of every file.

    Raises:
        CheckpointError: Something is missing, damaged or too much; the message names the file.
    """
    manifest = _read_manifest(path)
    contents: dict[str, bytes] = {}
    for name, entry in manifest["files"].items():
        content = _read(path / name)
        if len(content) != entry["bytes"]:
            raise CheckpointError(f"{path / name}: {len(content)} bytes, {entry['bytes']} were written.")
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise CheckpointError(f"{path / name}: damaged, its SHA-256 is not the one written.")
        contents[name] = content
    for entry in path.iterdir():
        if entry.name not in contents and entry.name != "manifest.json" and not entry.name.startswith("."):
            raise CheckpointError(f"{entry}: does not belong to this checkpoint; remove it.")
    try:
        state = json.loads(contents.pop("state.json"))
        tensors = {Path(name).stem: safetensors.torch.load(content) for name, content in contents.items()}
    except (KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this program ({one_line(error)}).") from error
    finite, planned = manifest["finite"], manifest.get("planned", True)
    return Loaded(path, manifest["step"], finite, planned, tensors, state)


def load_newest(
    root: Path,
    report: Report | None = None,
    *,
    finite_only: bool = False,
    planned_only: bool = False,
    latest: int | None = None,
) -> Loaded | None:
    """The newest checkpoint that verifies, or None if there is none at all.

    Args:
        root: The directory of checkpoints.
        report: Is told, a line each, which newer ones were refused and why.
        finite_only: Pass over those marked as not finite.
        planned_only: Pass over those that a signal or the clock made.
        latest: Pass over those of later steps.

    Raises:
        CheckpointError: There are checkpoints, but not one of them verifies.
    """
    refusals: list[str] = []
    for path in reversed(checkpoints(root)):
        try:
            loaded = load(path)
        except CheckpointError as error:
            if path.exists():  # else a trainer purged it meanwhile
                refusals.append(str(error))
            continue
        if (finite_only and not loaded.finite) or (planned_only and not loaded.planned):
            continue
        if latest is not None and loaded.step > latest:
            continue
        if report:
            for refusal in refusals:
                report(f"refused {refusal} Going on from step {loaded.step}.")
        return loaded
    if refusals:
        raise CheckpointError(f"no usable checkpoint is left in {root}: {' '.join(refusals)}")
    return None


def checkpoints(root: Path) -> list[Path]:
    """Complete checkpoints (not verified), oldest first."""
    if not root.is_dir():
        return []
    return [path for _, path in sorted((order, path) for path, order in _complete(root))]


def sweep(root: Path) -> list[str]:
    """Remove what a kill left behind; names of what was removed. Only for the holder of the run's lock."""
    if not root.is_dir():
        return []
    strays = sorted(path for path in root.iterdir() if _STRAY.fullmatch(path.name))
    for path in strays:
        shutil.rmtree(path)
    return [path.name for path in strays]


def discard_after(root: Path, step: int) -> None:
    """Forget checkpoints beyond `step`: after going back to that one."""
    for path, (reached, _) in list(_complete(root)):
        if reached > step:
            _remove(path)


def _serialised(group: Mapping[str, Tensor]) -> bytes:
    """safetensors wants tensors that are contiguous and share no memory: `clone` sees to both."""
    return safetensors.torch.save(
        {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in group.items()}
    )


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _manifest(step: int, finite: bool, planned: bool, files: Mapping[str, bytes]) -> bytes:
    body = {
        "format": FORMAT,
        "step": step,
        "finite": finite,
        "planned": planned,
        "world_size": 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    return _json({"body": body, "sha256": hashlib.sha256(_json(body)).hexdigest()})


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's body. Any byte that is not as we would write it again is damage."""
    file = path / "manifest.json"
    content = _read(file)
    try:
        whole = json.loads(content)
        body, digest = whole["body"], whole["sha256"]
        intact = _json(whole) == content and hashlib.sha256(_json(body)).hexdigest() == digest
    except (ValueError, KeyError, TypeError):
        intact, body = False, {}
    if not intact:
        raise CheckpointError(f"{file}: damaged.")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{file}: format {body['format']}, this version reads format {FORMAT}.")
    named = _NAME.fullmatch(path.name)
    if named and int(named[1]) != body["step"]:
        raise CheckpointError(f"{file}: is of step {body['step']}, not of {path.name}.")
    return dict(body)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: missing.") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}).") from error


def _write(file: Path, content: bytes) -> None:
    with file.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(directory: Path) -> None:
    """Make the names in a directory durable (Windows neither can nor needs to)."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _complete(root: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for path in root.iterdir():
        named = _NAME.fullmatch(path.name)
        if named and path.is_dir():
            yield path, (int(named[1]), int(named[2] or 0))


def _free_name(root: Path, step: int) -> Path:
    """`step-00000120`, or `step-00000120.1` and so on if that step was saved before."""
    taken = [order[1] for _, order in _complete(root) if order[0] == step]
    return root / (f"step-{step:08d}" + (f".{max(taken) + 1}" if taken else ""))


def _may_be_gone_back_to(path: Path) -> bool:
    try:
        manifest = _read_manifest(path)
    except CheckpointError:
        return False
    return bool(manifest["finite"] and manifest.get("planned", True))


def _purge(root: Path, keep: int) -> None:
    """Drop all but the last `keep` and the last one to go back to."""
    complete = checkpoints(root)
    kept = set(complete[-keep:])
    kept.update([path for path in complete if _may_be_gone_back_to(path)][-1:])
    for path in complete:
        if path not in kept:
            with contextlib.suppress(PermissionError):  # read by another just now: the next save drops it
                _remove(path)


def _remove(path: Path) -> None:
    """Rename first, so that a kill half way leaves a stray and not half a checkpoint."""
    gone = path.with_name(f"{path.name}.gone-{uuid.uuid4().hex}")
    _rename(path, gone)
    shutil.rmtree(gone)


def _rename(source: Path, target: Path) -> None:
    """Rename a folder. Windows refuses that while a virus scanner or a reader holds a file in it: tried again for two
    seconds there."""
    for wait_seconds in RENAME_WAITS if os.name == "nt" else ():
        try:
            source.rename(target)
            return
        except PermissionError:
            time.sleep(wait_seconds)
    source.rename(target)
