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
import shlex
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crh_train import filesystem
from crh_train.errors import CorruptRun, UsageError
from crh_train.exports import Exported, check_folder
from crh_train.exports.contents import PICTURE, SERIES, Contents, contents_of, whole_run_only
from crh_train.regular_file import read_regular
from crh_train.run_store import RunFolder

VERSION = "brain.Event:2"
_MAX_IMAGE_BYTES = 64 << 20
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def export(folder: RunFolder, output: str, which: str | None = None) -> Exported:
    """Write the event file of a run, finished or not, into the folder `output`, over an older one.

    Raises:
      UsageError: tensorboardX is not installed, `output` is a file, or one checkpoint is asked for: the file is of the
        whole run.
      CorruptChronicle: a line is damaged. One that is being written is left out.
      CorruptRun: another file of the run cannot be read.
    """
    whole_run_only("tensorboard", which)
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--to tensorboard needs the package tensorboardX: pip install 'crh-train[tb]'; nothing was written"
        ) from error
    check_folder("tensorboard", Path(output) / folder.name)
    contents = contents_of(folder)
    data = _event_file(_events(folder, contents))
    path = Path(output) / folder.name / f"events.out.tfevents.0.{folder.name}"
    filesystem.make_folders(path.parent)
    filesystem.write_over(path, data)
    facts = {"steps": str(len(contents.records)), "bytes": str(len(data))}
    return Exported(str(path), facts, f"tensorboard --logdir {shlex.quote(output)}")


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


def _events(folder: RunFolder, contents: Contents) -> Iterator[Any]:
    from tensorboardX import summary
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    records, metrics = contents.records, contents.metrics
    step, end = (records[-1].step, records[-1].timestamp) if records else (0, 0.0)
    yield Event(wall_time=0.0, file_version=VERSION)
    experiment, start, session_end = summary.hparams(contents.settings, dict.fromkeys(metrics))
    yield Event(wall_time=0.0, summary=_ordered(experiment))
    yield Event(wall_time=0.0, summary=_ordered(start))
    yield Event(wall_time=0.0, summary=summary.text("run", _table(contents.identity)))
    for record in records:
        values = [Summary.Value(tag=f"train/{name}", simple_value=getattr(record, name)) for name in SERIES]
        yield Event(wall_time=record.timestamp, step=record.step, summary=Summary(value=values))
    for name, value in metrics.items():
        yield Event(wall_time=end, step=step, summary=summary.scalar(name, value))
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


def _table(rows: Mapping[str, str]) -> str:
    """In Markdown, as TensorBoard shows texts."""
    return "\n".join(["| identity | value |", "| --- | --- |", *(f"| {name} | `{rows[name]}` |" for name in rows)])


def _image(folder: RunFolder) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    path = folder.path / PICTURE
    if not folder.finished or not path.exists():
        return None
    png = read_regular(path, _MAX_IMAGE_BYTES, CorruptRun)
    if not png.startswith(_PNG) or len(png) < len(_PNG) + 8:
        raise CorruptRun(f"{path}: expected a PNG; `crh-train verify {folder.argument}` says what is damaged")
    width, height = struct.unpack_from(">II", png, len(_PNG))
    return Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
