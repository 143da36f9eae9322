"""A run as one TensorBoard event file, written by tensorboardX: `OUTPUT/<run>/events.out.tfevents.0.<run>`.

- `train/loss`, `train/coherence`, `train/lr`, `train/grad_norm` at every step, float32 as in the chronicle;
- `held_out/<metric>` at the last step, rounded to float32 as all of TensorBoard's scalars are;
- the configuration as hparams, with the held-out metrics; the run's hashes and command as the text `run`;
- `reports/cases.png` as the image `cases`, byte for byte.

The same run gives the same bytes with the same versions of tensorboardX and protobuf: neither the clock nor the
machine's name is in the file or its name. A chronicle knows seconds since the run began and no date, so a wall time is
that many seconds after 1970, and TensorBoard's axis "Relative" is the one to look at. A replay has other timestamps.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crh_train import filesystem
from crh_train.chronicle import ChronicleRecord
from crh_train.chronicle_audit import audit
from crh_train.errors import CorruptChronicle, CorruptRun, UsageError
from crh_train.exports import Exported
from crh_train.regular_file import read_regular
from crh_train.run_store import RunFolder
from crh_train.run_summary import validation_of

SERIES = ("loss", "coherence", "lr", "grad_norm")
VERSION = "brain.Event:2"
_MAX_IMAGE_BYTES = 64 << 20
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def export(folder: RunFolder, output: Path, which: str | None = None) -> Exported:
    """Write the event file of a run, finished or not, over an older one.

    Raises:
      UsageError: tensorboardX is not installed, or one checkpoint is asked for: the file is of the whole run.
      CorruptChronicle: a line is damaged. One that is being written is left out.
      CorruptRun: another file of the run cannot be read.
    """
    if which is not None:
        raise UsageError("--to tensorboard writes the whole run; --checkpoint is for --to safetensors")
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--to tensorboard needs the package tensorboardX: pip install 'crh-train[tb]'; nothing was written"
        ) from error
    records: list[ChronicleRecord] = []
    audited = audit(folder.path, folder.run_hash, records.append)
    if audited.problem is not None and (folder.finished or not audited.torn):
        raise CorruptChronicle(
            f"{folder.path}: {audited.problem}; nothing was written. `crh-train verify {folder.argument}` says more"
        )
    data = _event_file(_events(folder, records, audited.good.head))
    path = output / folder.name / f"events.out.tfevents.0.{folder.name}"
    filesystem.make_folders(path.parent)
    filesystem.write_over(path, data)
    facts = {"steps": str(len(records)), "bytes": str(len(data))}
    return Exported(path, facts, f"tensorboard --logdir {output}")


def _event_file(events: Iterator[Any]) -> bytes:
    from tensorboardX.record_writer import RecordWriter

    class InMemory(RecordWriter):  # type: ignore[misc]
        """Its frames and their checksums; the file itself is this package's matter, atomic and under a fixed name."""

        def __init__(self) -> None:
            self._writer = io.BytesIO()

    writer = InMemory()
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return writer._writer.getvalue()


def _events(folder: RunFolder, records: list[ChronicleRecord], head: str) -> Iterator[Any]:
    from tensorboardX import summary
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    metrics = {f"held_out/{name}": float(value) for name, value in _measured(folder).items()}
    step, end = (records[-1].step, records[-1].timestamp) if records else (0, 0.0)
    yield Event(wall_time=0.0, file_version=VERSION)
    experiment, start, session_end = summary.hparams(_settings(folder), dict.fromkeys(sorted(metrics)))
    yield Event(wall_time=0.0, summary=_ordered(experiment))
    yield Event(wall_time=0.0, summary=_ordered(start))
    yield Event(wall_time=0.0, summary=summary.text("run", _identity(folder, head)))
    for record in records:
        values = [Summary.Value(tag=f"train/{name}", simple_value=getattr(record, name)) for name in SERIES]
        yield Event(wall_time=record.timestamp, step=record.step, summary=Summary(value=values))
    for name in sorted(metrics):
        yield Event(wall_time=end, step=step, summary=summary.scalar(name, metrics[name]))
    if (image := _image(folder)) is not None:
        yield Event(wall_time=end, step=step, summary=Summary(value=[Summary.Value(tag="cases", image=image)]))
    if folder.finished:
        yield Event(wall_time=end, summary=_ordered(session_end))


def _ordered(summary: Any) -> Any:
    """The same with its settings in sorted order: they are a map, which protobuf writes in any order unless asked."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    for value in summary.value:
        plugin = value.metadata.plugin_data
        plugin.content = HParamsPluginData.FromString(plugin.content).SerializeToString(deterministic=True)
    return summary


def _measured(folder: RunFolder) -> Mapping[str, Any]:
    found = validation_of(folder) or {}
    return {name: value for name, value in found.items() if value is not None}


def _settings(folder: RunFolder) -> dict[str, str | bool | float]:
    """Every value of the configuration by its dotted name, and the seed."""
    flat: dict[str, str | bool | float] = {"engine.seed": folder.run_document()["seed"]}

    def visit(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key in value:
                visit(f"{name}.{key}" if name else key, value[key])
        else:
            flat[name] = value if isinstance(value, str | bool | int | float) else str(value)

    visit("", folder.config_document()["config"])
    return {name: flat[name] for name in sorted(flat)}


def _identity(folder: RunFolder, head: str) -> str:
    """A table in Markdown, as TensorBoard shows texts."""
    session, run = folder.sessions()[0], folder.run_document()
    command = " ".join([f"conf={session['command']['conf']}", *session["command"]["overrides"]])
    rows = {
        "run hash": folder.run_hash,
        "config hash": run["config_hash"],
        "dataset state": run["dataset_state"],
        "seed": run["seed"],
        "chronicle head": head,
        "command": f"crh-train run {command}",
        "crh-train": session["version"],
    }
    return "\n".join(["| identity | value |", "| --- | --- |", *(f"| {name} | `{rows[name]}` |" for name in rows)])


def _image(folder: RunFolder) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    path = folder.path / "reports" / "cases.png"
    if not folder.finished or not path.exists():
        return None
    png = read_regular(path, _MAX_IMAGE_BYTES, CorruptRun)
    if not png.startswith(_PNG) or len(png) < len(_PNG) + 8:
        raise CorruptRun(f"{path}: expected a PNG; `crh-train verify {folder.argument}` says what is damaged")
    width, height = struct.unpack_from(">II", png, len(_PNG))
    return Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
