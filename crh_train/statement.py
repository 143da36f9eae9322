"""What a signature on a run says, as an in-toto Statement v1 (https://github.com/in-toto/attestation), and where the
files say otherwise. Knows nothing of keys.

    {"_type": "https://in-toto.io/Statement/v1",
     "predicate": {
       "checkpoints": [hash, …],     in the order of training
       "chronicle": {"head", "lines"},
       "config_hash", "dataset_state", "run_hash", "seed", "semantics_version",
       "environment": {"fingerprints": [SHA-256 of each session's], "sessions": SHA-256 of them all},
       "program": SHA-256 of program.json,
       "removed": [file name, …]},   checkpoints that went to save space
     "predicateType": PREDICATE_TYPE,
     "subject": [{"digest": {"sha256"}, "name"}, …]}

1. The text MUST be canonical JSON (RFC 8785).
2. `subject` MUST list every file below the run's folder by its name relative to it, in sorted order and once, but
   `.lock`, what is in `signatures/`, and temporary files.
"""

from collections.abc import Iterator, Mapping, Sequence
from reprlib import repr as shown
from typing import Any

from crh_train.chronicle_audit import audit
from crh_train.digest import canonical_json, digest_json
from crh_train.errors import CorruptRun
from crh_train.filesystem import TEMPORARY_PREFIX
from crh_train.findings import Finding, damaged
from crh_train.run_files import file_digests
from crh_train.run_folder import SIGNATURES_NAME, RunFolder

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "tag:crh-train,2026:run/v1"


def subjects(folder: RunFolder, regular: Sequence[str]) -> dict[str, str]:
    """Name and SHA-256 of the files that a statement is about; `regular` names all that there are."""
    return file_digests(folder.path, [name for name in regular if is_subject(name)])


def is_subject(name: str) -> bool:
    parts = name.split("/")
    return (
        name != ".lock" and parts[0] != SIGNATURES_NAME and not any(part.startswith(TEMPORARY_PREFIX) for part in parts)
    )


def predicate(folder: RunFolder) -> dict[str, Any]:
    """What is said of a run, from its files. Raises `InputError` where they cannot be trusted."""
    sessions, audited = folder.sessions(), audit(folder.path, folder.run_hash)
    if audited.problem is not None:
        raise CorruptRun(f"{folder.path}: {audited.problem}")
    folder.program_document()  # raises where it is not the one that the sessions name
    return {
        **folder.run_document(),
        "checkpoints": [stored.name.hash for stored in folder.checkpoints()],
        "chronicle": {"head": audited.good.head, "lines": audited.good.records},
        "environment": {
            "fingerprints": [digest_json(session["fingerprint"]) for session in sessions],
            "sessions": digest_json(sessions),
        },
        "program": sessions[0]["program"],
        "removed": [name.text for name in folder.removed()],
        "run_hash": folder.run_hash,
    }


def statement_bytes(digests: Mapping[str, str], said: Mapping[str, Any]) -> bytes:
    """The statement of a run that has the files `digests` and the predicate `said`."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "predicate": dict(said),
            "predicateType": PREDICATE_TYPE,
            "subject": [{"digest": {"sha256": digests[name]}, "name": name} for name in sorted(digests)],
        }
    )


# --- a statement and what is there ---------------------------------------------------------------------------------


def disagreements(
    document: Any, place: str, digests: Mapping[str, str], said: Mapping[str, Any] | None
) -> list[Finding]:
    """Where a signed statement, parsed, and a run's files differ. `place` names the envelope; `said` is None where
    the files are too damaged to say anything."""
    keys = ("_type", "predicate", "predicateType", "subject")
    if not isinstance(document, dict) or tuple(sorted(document)) != keys:
        return damaged(place, [f"expected a statement of the fields {', '.join(keys)}, found {shown(document)}"])
    findings: list[Finding] = []
    for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if document[key] != expected:
            findings += damaged(place, [f"{key}: expected {expected}, found {shown(document[key])}"])
    if findings:
        return findings
    if said is not None:
        findings += damaged(place, _differ(document["predicate"], said, "predicate"))
    signed, problems = _signed_subjects(document["subject"])
    return [*findings, *damaged(place, problems), *_files_differ(signed, digests)]


def _differ(signed: Any, said: Any, where: str) -> Iterator[str]:
    """In words, where two JSON values differ; of a list, the first such place."""
    if isinstance(signed, dict) and isinstance(said, dict):
        for key in sorted({*signed, *said}):
            if key not in signed:
                yield f"{where}: the field {key} is missing"
            elif key not in said:
                yield f"{where}: expected no field {shown(key)}"
            else:
                yield from _differ(signed[key], said[key], f"{where}.{key}")
    elif isinstance(signed, list) and isinstance(said, list) and len(signed) == len(said):
        places = (
            list(_differ(*pair, f"{where}[{index}]")) for index, pair in enumerate(zip(signed, said, strict=True))
        )
        yield from next(filter(None, places), [])
    elif signed != said:
        yield f"{where}: {_text(signed)} was signed, the files say {_text(said)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 64 else shown(value)


def _signed_subjects(listed: Any) -> tuple[dict[str, str], list[str]]:
    """Name -> SHA-256 of the subjects that are well formed, and what is wrong with the others."""
    if not isinstance(listed, list):
        return {}, [f"subject: expected a list, found {shown(listed)}"]
    signed: dict[str, str] = {}
    problems: list[str] = []
    before = ""
    for index, item in enumerate(listed):
        if (
            not isinstance(item, dict)
            or sorted(item) != ["digest", "name"]
            or not isinstance(item["name"], str)
            or not isinstance(item["digest"], dict)
            or list(item["digest"]) != ["sha256"]
            or not isinstance(item["digest"]["sha256"], str)
        ):
            problems.append(f'subject[{index}]: expected {{"digest": {{"sha256"}}, "name"}}, found {shown(item)}')
            continue
        name = item["name"]
        if any(part in ("", ".", "..") for part in name.split("/")) or not is_subject(name):
            problems.append(f"subject[{index}]: expected a file of the run, found the name {shown(name)}")
            continue
        if name <= before:
            what = "is there twice" if name in signed else "is not in sorted order"
            problems.append(f"subject[{index}]: {shown(name)} {what}")
        signed[name], before = item["digest"]["sha256"], max(name, before)
    return signed, problems


def _files_differ(signed: Mapping[str, str], digests: Mapping[str, str]) -> list[Finding]:
    findings: list[Finding] = []
    signed_names = {digest: name for name, digest in signed.items()}
    moved = {digest: name for name, digest in digests.items() if name not in signed}
    for name in sorted({*signed, *digests}):
        if name not in digests:
            where = f"; its content is in {moved[signed[name]]}" if signed[name] in moved else ""
            findings += damaged(name, [f"was signed and is not there{where}"])
        elif name not in signed:
            findings += damaged(name, [f"is there and was not signed{_other(signed_names, digests[name], name)}"])
        elif digests[name] != signed[name]:
            other = _other(signed_names, digests[name], name)
            findings += damaged(name, [f"is not the file that was signed{other}; its SHA-256 is {digests[name]}"])
    return findings


def _other(signed_names: Mapping[str, str], digest: str, name: str) -> str:
    other = signed_names[digest] if digest in signed_names else name
    return "" if other == name else f"; it has the content that was signed as {other}"
