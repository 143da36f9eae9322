"""The DSSE envelope: what securesystemslib makes, byte for byte, and nothing else."""

import json
import re
from typing import Any

import pytest
from key_samples import ALICE, made
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from crh_train.digest import canonical_json
from crh_train.envelope import PAYLOAD_TYPE, pae, sealed, unsealed


@pytest.mark.parametrize("payload", [b"", b"{}", bytes(range(256)) * 5])
def test_an_envelope_comes_back_and_is_what_securesystemslib_makes(payload: bytes) -> None:
    data = sealed(payload, ALICE)
    assert data == sealed(payload, ALICE)
    opened = unsealed(data)
    assert opened.payload == payload
    assert opened.key_id == ALICE.public.id
    assert ALICE.public.signed(pae(payload), opened.signature)
    read = dsse.Envelope.from_dict(json.loads(data))
    assert read.pae() == pae(payload)
    assert read.to_dict() == json.loads(data)
    alice, bob = (SSlibKey.from_crypto(made(number).public_key()) for number in (1, 2))
    assert read.verify([alice], 1) == {ALICE.public.id: alice}
    with pytest.raises(VerificationError):
        read.verify([bob], 1)


def changed(**changes: Any) -> bytes:
    """The envelope of `{}` with other fields; None takes one away."""
    envelope = {**json.loads(sealed(b"{}", ALICE)), **changes}
    return canonical_json({name: value for name, value in envelope.items() if value is not None})


SIGNATURE = json.loads(sealed(b"{}", ALICE))["signatures"][0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ""),
        (b"\xff", ""),
        (b"[" * 100_000, ""),
        (b"[]", "the envelope: expected the keys payload, payloadType, signatures"),
        (changed(payload=None), "the envelope: expected the keys"),
        (changed(more=1), "the envelope: expected the keys"),
        (changed(payloadType="text/plain"), f"payloadType: expected {PAYLOAD_TYPE}, found 'text/plain'"),
        (changed(payloadType=3), "payloadType: expected"),
        (changed(payload="e30"), "payload: expected base64"),
        (changed(payload="e30=\n"), "payload: expected base64"),
        (changed(payload="e31="), "is not canonical JSON with canonical base64"),
        (changed(payload=[]), "payload: expected base64"),
        (changed(signatures=[]), "signatures: expected a list of one"),
        (changed(signatures=[SIGNATURE, SIGNATURE]), "signatures: expected a list of one"),
        (changed(signatures={}), "signatures: expected a list of one"),
        (changed(signatures=[{**SIGNATURE, "more": 1}]), "signatures[0]: expected the keys keyid, sig"),
        (changed(signatures=[{**SIGNATURE, "keyid": 3}]), "signatures[0].keyid: expected text"),
        (changed(signatures=[{**SIGNATURE, "sig": "§"}]), "signatures[0].sig: expected base64"),
        (sealed(b"{}", ALICE) + b"\n", "is not canonical JSON"),
        (json.dumps(json.loads(sealed(b"{}", ALICE))).encode(), "is not canonical JSON"),
        (sealed(b"{}", ALICE)[:-1] + b',"signatures":[]}', ""),
    ],
)
def test_what_is_no_envelope(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        unsealed(data)
