"""What a model makes of each input, written in the input's own format. One case at a time is in memory."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crh_train.config import ImagesConfig
from crh_train.errors import DataError, UsageError
from crh_train.inference import inputs, outputs
from crh_train.inference.case import Case, Encoded, Result
from crh_train.inference.inputs import Input
from crh_train.inference.model import Model
from crh_train.inference.preparation import Prepared, prepare
from crh_train.inference.samples import predicted

TABLE = ".csv"


class Written(NamedTuple):
    """One line of what a person is told."""

    input: str
    output: str
    shape: tuple[int, ...]
    sha256: str  # of the array that was written
    label: str | None = None  # the class of the whole case
    probabilities: tuple[float, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**self._asdict(), "shape": list(self.shape), "probabilities": list(self.probabilities)}


def run(model: Model, given: Sequence[Path], out: Path, force: bool) -> list[Written]:
    """Predict every case of `given` and write what comes of it: images and maps of classes as files of their own,
    classes of whole cases as one CSV.

    Raises:
      UsageError: an output is taken, or `out` does not fit; nothing was computed.
      DataError: an input cannot be read, or not by this model; what was written before stays.
    """
    found = inputs.find(given, model.channels)
    if model.whole:
        return _table(model, found, out, force)
    several = len(found) > 1
    if several and out.exists() and not out.is_dir():
        raise UsageError(f"-o {out}: expected a folder for {len(found)} inputs, found a file")
    places = [outputs.place(out, several, each.name, each.endings) for each in found]
    for path, _ in places:
        outputs.check_free(path, [each.path for each in found], force)
    written = []
    for each, (path, ending) in zip(found, places, strict=True):
        encoded = _encoded(model, each.read(), ending)
        outputs.publish(path, encoded, force)
        written.append(Written(str(each.path), str(path), encoded.array.shape, encoded.sha256))
    return written


def _made(model: Model, case: Case) -> tuple[Prepared, np.ndarray]:
    """The case as the model sees it, and what it makes of that."""
    if not case.kspace and (found := 1 if case.image.ndim == 3 else case.image.shape[3]) != model.channels:
        raise DataError(
            f"{case.path}: has {found} channel{'' if found == 1 else 's'}, the model takes {model.channels}"
        )
    data = model.config.data
    prepared = prepare(case, data, model.transform)
    try:
        made = predicted(prepared.slices, model.predict, model.slices, data.stride, model.whole)
    except DataError as error:
        raise DataError(f"{case.path}: {error}") from error
    return prepared, made


def _encoded(model: Model, case: Case, ending: str) -> Encoded:
    prepared, made = _made(model, case)
    if model.names:
        classes = prepared.back(np.argmax(made, axis=-1).astype(np.int32))
        return case.encode(Result(_values(model)[classes], True, model.checkpoint), ending)
    if made.ndim != 3:
        raise DataError(f"{case.path}: the model makes images of {made.shape[3]} channels, which no output here holds")
    return case.encode(Result(prepared.intensities(prepared.back(made)), False, model.checkpoint), ending)


def _values(model: Model) -> np.ndarray:
    """What stands in a map for each class: the value that the masks had, or the number of the class.

    Of pictures alone the classes are called as their values are; elsewhere digits may be a name like any other.
    """
    masks = isinstance(model.config.data, ImagesConfig)
    return np.array([int(name) for name in model.names] if masks else range(len(model.names)), np.int64)


def _table(model: Model, found: Sequence[Input], out: Path, force: bool) -> list[Written]:
    if not out.name.endswith(TABLE):
        raise UsageError(f"-o {out}: expected a name that ends in {TABLE}, for a line about each input")
    outputs.check_free(out, [each.path for each in found], force)
    stream = io.StringIO()
    rows: Any = csv.writer(stream, lineterminator="\n")
    rows.writerow(["file", "class", *(f"probability_{name}" for name in model.names), "checkpoint"])
    written = []
    for each in found:
        _, made = _made(model, each.read())
        label = model.names[int(np.argmax(made))]
        rows.writerow([each.path, label, *(str(value) for value in made), model.checkpoint])
        digest = Encoded({}, made).sha256
        written.append(Written(str(each.path), str(out), made.shape, digest, label, tuple(map(float, made))))
    outputs.publish(out, Encoded({"": stream.getvalue().encode()}, np.empty(0)), force)
    return written
