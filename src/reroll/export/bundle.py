"""Bundle: a trained model in one file to pass on, `NAME.reroll.safetensors`.

In: a run. Out: a safetensors file: the averaged weights, and in its header the run's record without the places of its
footage, and the model card. Reading one executes nothing, and takes no more memory than the file has bytes: names,
shapes and types of all tensors are compared with those of the model it says it is before anything is allocated.
"""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from reroll.errors import CheckpointError, one_line
from reroll.export.media import atomic_path
from reroll.parts.model import VideoModel, older
from reroll.training.run import FORMAT, RunRecord, load_model, read_record, weights_sha256

ENDING = ".safetensors"
KEY = "reroll"
MOST_BYTES = 4 << 30
"""Of a bundle: more than any model here has."""
MOST_HEADER_BYTES = 32 << 20
"""Of a bundle: names and shapes of its tensors, its record and its card, two lines for each file of its footage."""
DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def is_bundle(path: Path) -> bool:
    """Whether a path looks like a bundle and not like a run."""
    return path.suffix == ENDING and path.is_file()


def pack(run: Path, output: Path) -> Path:
    """Write the run as a bundle; CheckpointError when it has nothing to sample from yet."""
    record = read_record(run)
    model, step = load_model(run, record)
    shared = anonymous(record)
    content = {
        "format": FORMAT,
        "step": step,
        "record": shared.model_dump(),
        "card": card(run, shared, model, step),
    }
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    text = json.dumps(content)
    if len(text) > MOST_HEADER_BYTES // 4:  # it is escaped once more, and in ASCII
        raise CheckpointError(
            f"{run}: what is said of its {len(record.footage)} files of footage does not fit into a bundle."
        )
    with atomic_path(output) as temporary:
        temporary.write_bytes(save(tensors, {KEY: text}))  # save_file would let only its owner read it
    return output


def anonymous(record: RunRecord) -> RunRecord:
    """A record that says nothing of the machine's folders: of footage names only."""
    config = record.config.model_copy(
        update={
            "footage": tuple(Path(path).name for path in record.config.footage),
            "init": None,
            "like": None,
        }
    )
    footage = tuple(each.model_copy(update={"path": Path(each.path).name}) for each in record.footage)
    return record.model_copy(update={"config": config, "footage": footage, "store": "", "notes": ()})


def read_bundle(path: Path) -> tuple[RunRecord, VideoModel, int]:
    """The record, the model on the CPU and its step. CheckpointError if it is no bundle, or not what it says."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CheckpointError(f"{path}: larger than any model of reroll; it is not read.")
        _check_header(path)
        with safe_open(path, "pt") as file:
            content = _content(path, file.metadata())
            record = RunRecord.model_validate(content.get("record"))
            expected = _expected(path, record)
            without = older(expected)
            if not set(expected) - set(without) <= set(file.keys()) <= set(expected):
                raise CheckpointError(f"{path}: its tensors are not those of the model it says it is.")
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                there, value = file.get_slice(name), expected[name]
                if there.get_shape() != list(value.shape) or there.get_dtype() != DTYPES.get(value.dtype):
                    raise CheckpointError(f"{path}: {name} has not the shape of the model it says it is.")
            tensors = without | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file.") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(
            f"{path}: damaged at {'.'.join(map(str, first['loc'])) or 'its record'} ({first['msg']})."
        ) from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: no bundle of reroll, or damaged ({one_line(error)}).") from None
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise CheckpointError(f"{path}: damaged, some of its weights are not finite.")
    model = VideoModel(record.model)
    model.load_state_dict(tensors)
    return record, model, int(content["step"])


def _expected(path: Path, record: RunRecord) -> dict[str, torch.Tensor]:
    """Names, shapes and types of the tensors of a record's model, without their memory."""
    try:
        with torch.device("meta"):
            return VideoModel(record.model).state_dict()
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: no model can have the sizes it says.") from error


def _check_header(path: Path) -> None:
    with path.open("rb") as start:
        if int.from_bytes(start.read(8), "little") > MOST_HEADER_BYTES:
            raise CheckpointError(f"{path}: no bundle of reroll, its header is too long.")


def read_card(path: Path) -> str:
    """A bundle's model card."""
    _check_header(path)
    with safe_open(path, "pt") as file:
        return str(_content(path, file.metadata()).get("card", ""))


def _content(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        content = json.loads((metadata or {})[KEY])
        if not isinstance(content, dict) or not isinstance(content.get("step"), int):
            raise ValueError
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: no bundle of reroll; make one with `reroll pack RUN`.") from None
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: written by another version of reroll; this one reads format {FORMAT}."
        )
    return content


def card(run: Path, record: RunRecord, model: VideoModel, step: int) -> str:
    """The model card, Markdown: what it was made from and for how long, how good it is, what it cannot do."""
    config, size = record.config, record.model
    seconds = sum(file.seconds for file in record.footage)
    budget = f"{config.minutes:g} minutes" if config.minutes else f"{step:,} steps"
    lines = [
        f"# {run.resolve().name}",
        "",
        f"A `{config.recipe}` of reroll {record.version}, {size.width}×{size.height} pixels at {record.fps:g} frames a"
        f" second, model `{record.plan.model}`, seed {config.seed}; trained for {budget} ({step:,} steps) on"
        f" {record.engine.get('cpu', record.engine.get('device_name', 'an unknown machine'))}.",
        f"Weights: SHA-256 {weights_sha256(model)}.",
        "",
        "## Footage",
        "",
        f"Nothing is in the model but these {len(record.footage)} files, {seconds:.0f} seconds. Owner:"
        f" {config.owner or 'not said'}. Licence: {config.licence or 'not said'}.",
        "",
        "| file | seconds | label | SHA-256 |",
        "| --- | --- | --- | --- |",
        *(
            f"| {file.path} | {file.seconds:.1f} | {file.label or ''} | {file.sha256} |"
            for file in record.footage
        ),
        "",
        "## How good it is",
        "",
        *_judgement(run),
        "",
        "## Limits",
        "",
        "It shows variations of what is in its footage and nothing else, at its own size and up to about its own frame"
        " rate. With little footage its clips follow that closely: read the copy check above before you call them new.",
    ]
    return "\n".join(lines) + "\n"


def _judgement(run: Path) -> list[str]:
    """What the run's report found, if there is one."""
    try:
        numbers = json.loads((run / "report.json").read_text(encoding="utf-8"))
        judged = numbers["judgement"]
        distances = [
            f"- {each['space']}: {each['frechet']['median']:.3g}"
            + (
                ""
                if each["multiple"] is None
                else f", {each['multiple']:.1f} times that of footage to footage"
            )
            for each in judged["distances"]
        ]
        return [numbers["verdict"], "", f"Fréchet distances ({judged['basis']}):", "", *distances]
    except (OSError, ValueError, KeyError, TypeError):
        return ["Not measured: there was no report when it was packed (`reroll report` makes one)."]
