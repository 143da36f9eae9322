"""Some thousand inputs of the fuzzer, always the same ones, and that it finds a reader which breaks its promise."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crh_train import checkpoint_file, checkpoint_header, chronicle_audit
from crh_train.chronicle import ChronicleRecord

SCRIPTS = Path(__file__).parents[1] / "scripts"
EXECUTIONS = 1500
MEMORY = 1 << 20  # MB: no limit here, where the process has done other things before


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("fuzz", "fuzzing")]:
        del sys.modules[name]


def fuzz(name: str, executions: int = EXECUTIONS) -> tuple[int, int, int]:
    """Accepted, refused, and the number of reasons."""
    import fuzz

    done = fuzz.at_random(name, seed=1, until=time.monotonic() + 600, executions=executions, memory=MEMORY)
    assert done.executions == executions
    return done.accepted, done.refused, done.reasons


@pytest.mark.parametrize("name", ["checkpoint", "chronicle"])
def test_a_reader_accepts_what_it_can_write_again_or_raises_its_one_error(name: str) -> None:
    accepted, refused, reasons = fuzz(name)
    assert accepted > EXECUTIONS // 20
    assert refused > EXECUTIONS // 2
    assert reasons > 40


def lenient(line: bytes, _: int) -> ChronicleRecord:
    return ChronicleRecord(**json.loads(line))


@pytest.mark.parametrize(
    ("name", "module", "function", "replacement"),
    [
        ("checkpoint", checkpoint_file, "_check_payload", lambda *_: None),
        ("checkpoint", checkpoint_header, "_expect_keys", lambda *_: None),
        ("checkpoint", checkpoint_header, "_shown", repr),
        ("chronicle", chronicle_audit, "line_sum", lambda _: bytes(32)),
        ("chronicle", chronicle_audit, "parse_line", lenient),
    ],
)
def test_a_reader_without_one_of_its_checks_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    module: object,
    function: str,
    replacement: object,
) -> None:
    monkeypatch.setattr(module, function, replacement)
    with pytest.raises(Exception):  # noqa: B017, PT011
        fuzz(name)
    assert "violated by" in capsys.readouterr().err
