"""The hashes that every machine must give, and which machines gave them: `tests/golden/bits.json`.

    {jax version that traced: {case: {"bits": SHA-256, "seen": ["device, jax version that ran it", …]}}}

Versions of JAX make different programs of the same source, so the hashes are of one version's programs.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matrix.rows import Measured


def read(path: Path, version: str, cases: Sequence[str]) -> dict[str, str]:
    """The golden hash of each of `cases`, of programs traced by JAX `version`. Ends the program where there is none."""
    document = _document(path)
    if version not in document:
        sys.exit(f"{path} has no hashes of programs traced by jax {version}, but by: {', '.join(document)}")
    if unknown := [case for case in cases if case not in document[version]]:
        sys.exit(f"{path} has no hash of {', '.join(unknown)}; add it: make matrix ARGS='--record {path}'")
    return {case: document[version][case]["bits"] for case in cases}


def record(path: Path, version: str, found: Sequence[Measured]) -> None:
    """Add what `found` agrees on to `path`. Where the bits are new, who gave the old ones is forgotten."""
    document = _document(path) if path.exists() else {}
    known = {**document[version]} if version in document else {}
    for each in found:
        for case, cell in each.cells.items():
            before = known[case]["seen"] if case in known and known[case]["bits"] == cell.bits else []
            known[case] = {"bits": cell.bits, "seen": sorted({*before, _machine(each.facts)})}
    document = {**document, version: known}
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _machine(facts: Mapping[str, Any]) -> str:
    return f"{facts['device']}, jax {facts['jax']}"
