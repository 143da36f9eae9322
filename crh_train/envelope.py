"""A DSSE envelope (https://github.com/secure-systems-lab/dsse, protocol and envelope 1.0) around one in-toto statement,
with one Ed25519 signature.

    {"payload": base64, "payloadType": "application/vnd.in-toto+json", "signatures": [{"keyid": …, "sig": base64}]}

The file is canonical JSON (RFC 8785) and nothing else, so that one statement and one key have one file. What is signed
is `pae`, which holds the payload's type and length.
"""

import base64
from reprlib import repr as shown
from typing import Any, NamedTuple

from crh_train.digest import canonical_json
from crh_train.plain_json import parse
from crh_train.signing_key import PrivateKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 16 << 20
"""The statement of a run of 40,000 checkpoints."""


class Envelope(NamedTuple):
    payload: bytes  # the statement
    key_id: str  # as the envelope states it; no signature covers it
    signature: bytes


def pae(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sealed(payload: bytes, key: PrivateKey) -> bytes:
    """The file of an envelope around `payload`, signed by `key`."""
    return _packed(Envelope(payload, key.public.id, key.sign(pae(payload))))


def unsealed(data: bytes) -> Envelope:
    """What an envelope's file holds; the signature is not checked. Raises `ValueError` for any other bytes than
    `sealed` gives."""
    document = parse(data)
    _expect_keys(document, ("payload", "payloadType", "signatures"), "the envelope")
    if document["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"payloadType: expected {PAYLOAD_TYPE}, found {shown(document['payloadType'])}")
    signatures = document["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise ValueError(f"signatures: expected a list of one, found {shown(signatures)}")
    _expect_keys(signatures[0], ("keyid", "sig"), "signatures[0]")
    if not isinstance(signatures[0]["keyid"], str):
        raise ValueError(f"signatures[0].keyid: expected text, found {shown(signatures[0]['keyid'])}")
    payload = _decoded(document["payload"], "payload")
    found = Envelope(payload, signatures[0]["keyid"], _decoded(signatures[0]["sig"], "signatures[0].sig"))
    if _packed(found) != data:
        raise ValueError("is not canonical JSON with canonical base64")
    return found


def _packed(envelope: Envelope) -> bytes:
    signature = {"keyid": envelope.key_id, "sig": _encoded(envelope.signature)}
    return canonical_json(
        {"payload": _encoded(envelope.payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    )


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: expected base64, found {shown(text)}") from error


def _expect_keys(document: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(document, dict) or tuple(sorted(document)) != keys:
        raise ValueError(f"{where}: expected the keys {', '.join(keys)}, found {shown(document)}")
