"""The signatures on a run: `signatures/<first 16 digits of the key's id>.dsse.json` in its folder, one of each signer.

What is checked of each: that it is that key's, and that the run's files are what it says, all of them and no others.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from crh_train.envelope import MAX_ENVELOPE_BYTES, Envelope, pae, unsealed
from crh_train.errors import CorruptRun, InputError
from crh_train.filesystem import TEMPORARY_PREFIX
from crh_train.findings import Finding, damaged
from crh_train.plain_json import parse
from crh_train.regular_file import read_regular
from crh_train.run_folder import SIGNATURES_NAME, RunFolder
from crh_train.signing_key import PublicKey
from crh_train.statement import disagreements, predicate, statement_bytes, subjects

_ID_DIGITS = 16
_NAME = re.compile(r"([0-9a-f]{16})\.dsse\.json", re.ASCII)


def signature_path(key: PublicKey) -> str:
    """Where the signature by `key` is, relative to the run's folder."""
    return f"{SIGNATURES_NAME}/{key.id[:_ID_DIGITS]}.dsse.json"


def signature_findings(
    folder: RunFolder, regular: Sequence[str], keys: Sequence[PublicKey]
) -> tuple[list[Finding], list[str]]:
    """What is wrong with the signatures on a run, and the ids of those of `keys` that have signed it as it is.

    `regular` names the files below the run's folder. Of the signatures by other keys only the form is checked.
    """
    findings, found = _envelopes(folder, regular)
    wanted = {signature_path(key): key for key in keys}
    findings += [
        Finding("note", place, f"signed by key {envelope.key_id}, which was not checked: --key with that public key")
        for place, envelope in found.items()
        if place not in wanted
    ]
    if not wanted:
        return findings, []
    digests = subjects(folder, regular)
    said, problems = _predicate(folder)
    good: list[str] = []
    for place, key in wanted.items():
        if place in found:
            wrong = _by(key, place, found[place], digests, said)
        elif any(finding.place == place for finding in findings):
            continue
        else:
            others = ", ".join(envelope.key_id for envelope in found.values()) or "nobody"
            wrong = damaged(place, [f"expected the signature of key {key.id}, found none; signed by {others}"])
        findings += wrong
        if not wrong and said is not None:
            good.append(key.id)
    return [*findings, *problems], good


def _envelopes(folder: RunFolder, regular: Sequence[str]) -> tuple[list[Finding], dict[str, Envelope]]:
    """What is in `signatures/`, by place, as far as it has the form of an envelope."""
    findings: list[Finding] = []
    found: dict[str, Envelope] = {}
    for place in [name for name in regular if name.startswith(f"{SIGNATURES_NAME}/")]:
        match = _NAME.fullmatch(place.removeprefix(f"{SIGNATURES_NAME}/"))
        if match is None:
            what = "a write that was not finished" if TEMPORARY_PREFIX in place else "no signature; nothing reads it"
            findings.append(Finding("note", place, what))
            continue
        try:
            envelope = unsealed(read_regular(folder.path / place, MAX_ENVELOPE_BYTES, CorruptRun))
            if not envelope.key_id.startswith(match[1]):
                raise ValueError(f"its name is that of another key than {envelope.key_id:.64}, which it states")
        except CorruptRun as error:
            findings += damaged(place, [str(error)])
        except ValueError as error:
            findings += damaged(place, [f"expected what `crh-train sign` writes: {error}; have the run signed again"])
        else:
            found[place] = envelope
    return findings, found


def _predicate(folder: RunFolder) -> tuple[Mapping[str, Any] | None, list[Finding]]:
    try:
        return predicate(folder), []
    except InputError as error:
        return None, damaged(SIGNATURES_NAME, [f"what was signed cannot be compared with the run as a whole: {error}"])


def _by(
    key: PublicKey, place: str, envelope: Envelope, digests: Mapping[str, str], said: Mapping[str, Any] | None
) -> list[Finding]:
    if envelope.key_id != key.id:
        return damaged(place, [f"expected key {key.id}, it states {envelope.key_id:.64}"])
    if not key.signed(pae(envelope.payload), envelope.signature):
        message = f"the signature is not that of key {key.id} on this statement: one of the two was changed"
        return damaged(place, [message])
    if said is not None and envelope.payload == statement_bytes(digests, said):
        return []
    try:
        document = parse(envelope.payload)
    except ValueError as error:
        return damaged(place, [f"the statement: {error}"])
    findings = disagreements(document, place, digests, said)
    if not findings and said is not None:
        return damaged(place, ["the statement is not canonical JSON"])
    return findings
