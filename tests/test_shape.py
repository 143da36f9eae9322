"""Shapes of JSON documents: what fits passes, and a misfit is named with its place."""

from typing import Any

import pytest

from crh_train.shape import misfit

SHAPE = {"name": str, "files": [{"sha256": str, "size": int}], "more": {"seed": int, ...: object}}
GOOD: dict[str, Any] = {"name": "a", "files": [{"sha256": "b", "size": 1}], "more": {"seed": 1, "x": [None]}}


def test_what_fits_passes() -> None:
    assert misfit(GOOD, SHAPE) is None
    assert misfit({**GOOD, "files": []}, SHAPE) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "the top level.name: expected text, found 1"),
        ({"name": None}, "the top level.name: expected text, found None"),
        ({"other": 1}, "the top level: expected the keys name, files, more, found ['name', 'files', 'more', 'other']"),
        ({"files": {}}, "the top level.files: expected a list, found {}"),
        ({"files": [{"sha256": "b", "size": True}]}, "the top level.files[0].size: expected an integer, found True"),
        ({"files": [{"sha256": "b", "size": 1.0}]}, "the top level.files[0].size: expected an integer, found 1.0"),
        ({"files": [{"sha256": "b"}]}, "the top level.files[0]: expected the keys sha256, size, found ['sha256']"),
        ({"more": {}}, "the top level.more: expected the keys seed, found []"),
        ({"more": []}, "the top level.more: expected an object, found []"),
        ({"name": ["x" * 1000]}, f"the top level.name: expected text, found ['{'x' * 78}…"),
    ],
)
def test_a_misfit_is_named_with_its_place(change: dict[str, Any], message: str) -> None:
    assert misfit({**GOOD, **change}, SHAPE) == message


def test_a_missing_key_is_a_misfit() -> None:
    assert misfit({"name": "a"}, SHAPE) == "the top level: expected the keys name, files, more, found ['name']"
