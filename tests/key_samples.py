"""Keys for the tests of what is signed: always the same ones."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from crh_train.signing_key import PrivateKey, PublicKey

Made = ed25519.Ed25519PrivateKey


def made(number: int) -> Made:
    return Made.from_private_bytes(bytes([number]) * 32)


def private_bytes(key: Any, kind: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> bytes:
    lock = NoEncryption() if password is None else BestAvailableEncryption(password)
    data: bytes = key.private_bytes(Encoding.PEM, kind, lock)
    return data


def public_bytes(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def public_line(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return data


def key_of(number: int) -> PrivateKey:
    key = made(number)
    return PrivateKey(PublicKey(key.public_key().public_bytes_raw()), key)


ALICE, BOB = key_of(1), key_of(2)
