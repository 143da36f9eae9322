"""Ed25519 keys (RFC 8032) in the files that OpenSSL and OpenSSH make. `cryptography` is imported when a key is read.

A private key is PKCS#8 in PEM (`openssl genpkey -algorithm ed25519`) or an OpenSSH one (`ssh-keygen -t ed25519`); a
public key is SubjectPublicKeyInfo in PEM (`openssl pkey -pubout`) or an OpenSSH line (`….pub`). What a key file holds
is in no message, and no copy of it is kept.

A key's id is SHA-256 of the canonical JSON of {"keytype", "keyval", "scheme"}, as securesystemslib and in-toto have it.
"""

import base64
import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crh_train.digest import digest_json
from crh_train.errors import KeyRefused
from crh_train.regular_file import read_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_KEY_BYTES = 16 << 10
_MAKE_ONE = "`openssl genpkey -algorithm ed25519 -out FILE` makes one"
_IDENTIFIER = bytes.fromhex("06032b6570")  # 1.3.101.112 in DER, RFC 8410
_KINDS = {
    "PRIVATE KEY": ("load_pem_private_key", _IDENTIFIER),
    "PUBLIC KEY": ("load_pem_public_key", _IDENTIFIER),
    "OPENSSH PRIVATE KEY": ("load_ssh_private_key", b"\0\0\0\x0bssh-ed25519"),
}
"""Label in PEM -> what of `cryptography` reads it, and what is near its beginning."""
_MARK_WITHIN = 128  # bytes
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PUBLIC_LINE = re.compile(rb"(ssh|ecdsa|sk)-[^\s\0]+ ")


@dataclass(frozen=True)
class PublicKey:
    raw: bytes  # 32 bytes

    @functools.cached_property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return digest_json({"keytype": "ed25519", "keyval": {"public": self.raw.hex()}, "scheme": "ed25519"})

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    public: PublicKey
    _key: "Ed25519PrivateKey" = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """64 bytes, always the same for the same message."""
        return self._key.sign(message)


def read_private_key(path: Path) -> PrivateKey:
    """The private key in a file. Raises `KeyRefused` for anything else."""
    key = _read(path)
    if isinstance(key, PublicKey):
        raise KeyRefused(f"{path}: expected a private key, found a public one; give the file that it was made from")
    return key


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file, or the public half of the private key there. Raises `KeyRefused` for anything else."""
    key = _read(path)
    return key if isinstance(key, PublicKey) else key.public


def _read(path: Path) -> PublicKey | PrivateKey:
    # Key files often are links, made by whoever keeps the keys; pipes and devices are refused all the same.
    data = read_regular(Path(os.path.realpath(path)), MAX_KEY_BYTES, KeyRefused).strip()
    labels = [label.decode() for label in _BEGIN.findall(data)]
    if len(labels) > 1:
        raise KeyRefused(f"{path}: expected one key, found {len(labels)}; put each in a file of its own")
    if labels:
        return _pem(path, labels[0], data)
    if _PUBLIC_LINE.match(data):
        algorithm, lines = data.split()[0].decode("ascii", "replace"), data.count(b"\n") + 1
        if algorithm != "ssh-ed25519" or lines != 1:
            raise KeyRefused(f"{path}: expected one line of ssh-ed25519, found {lines} of {algorithm:.40}; {_MAKE_ONE}")
        return _loaded(path, "load_ssh_public_key", data)
    raise KeyRefused(f"{path}: expected an Ed25519 key in PEM or of OpenSSH, found neither; {_MAKE_ONE}")


def _pem(path: Path, label: str, data: bytes) -> PublicKey | PrivateKey:
    if label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in data:
        raise _encrypted(path)
    if label not in _KINDS:
        raise KeyRefused(f"{path}: expected an Ed25519 key, found `{label}`; {_MAKE_ONE}")
    loader, mark = _KINDS[label]
    try:
        begin = base64.b64decode(b"".join(data.splitlines()[1:-1]))[:_MARK_WITHIN]
    except ValueError:
        raise _unreadable(path) from None
    # A key of another algorithm is not even opened: checking the numbers of some takes as long as their maker likes.
    if begin and mark not in begin:
        raise KeyRefused(f"{path}: expected an Ed25519 key, found one of another algorithm; {_MAKE_ONE}")
    return _loaded(path, loader, data)


def _loaded(path: Path, loader: str, data: bytes) -> PublicKey | PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    try:
        key = getattr(serialization, loader)(data, *([None] if loader.endswith("private_key") else []))
    except TypeError:  # there is a password, and none was given
        raise _encrypted(path) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unreadable(path) from None
    if isinstance(key, Ed25519PrivateKey):
        return PrivateKey(PublicKey(key.public_key().public_bytes_raw()), key)
    if isinstance(key, Ed25519PublicKey):
        return PublicKey(key.public_bytes_raw())
    raise _unreadable(path)


def _unreadable(path: Path) -> KeyRefused:
    return KeyRefused(f"{path}: expected an Ed25519 key, found one that cannot be read; {_MAKE_ONE}")


def _encrypted(path: Path) -> KeyRefused:
    return KeyRefused(
        f"{path}: expected a key without a password, found an encrypted one; `openssl pkey -in FILE -out PLAIN` or "
        "`ssh-keygen -p` on a copy takes the password off"
    )
