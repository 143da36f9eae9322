"""Files of Ed25519 keys: those of OpenSSL and OpenSSH are read, everything else is refused without a word of it."""

import base64
import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    PrivateFormat,
)
from key_samples import ALICE, Made, made, private_bytes, public_bytes, public_line
from securesystemslib.signer import SSlibKey

from crh_train.errors import KeyRefused
from crh_train.signing_key import read_private_key, read_public_key


def test_the_first_vector_of_rfc_8032(tmp_path: Path) -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    (tmp_path / "key").write_bytes(private_bytes(Made.from_private_bytes(seed)))
    key = read_private_key(tmp_path / "key")
    signature = key.sign(b"")
    assert key.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signature.hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b"
    )
    assert key.public.signed(b"", signature)
    assert not key.public.signed(b"x", signature)
    assert not ALICE.public.signed(b"", signature)
    assert not key.public.signed(b"", signature[:-1])


@pytest.mark.parametrize(
    "data",
    [
        private_bytes(made(1)),
        private_bytes(made(1), PrivateFormat.OpenSSH),
        private_bytes(made(1)).replace(b"\n", b"\r\n"),
        b"\n  " + private_bytes(made(1)) + b"\n",
    ],
    ids=["pkcs8", "openssh", "line ends", "white space"],
)
def test_private_keys_of_openssl_and_openssh(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "real").write_bytes(data)
    (tmp_path / "key").symlink_to("real")  # as those who keep keys hand them out
    assert read_private_key(tmp_path / "key").public == ALICE.public
    assert read_public_key(tmp_path / "key") == ALICE.public


@pytest.mark.parametrize("data", [public_bytes(made(1)), public_line(made(1)), public_line(made(1)) + b" alice@home\n"])
def test_public_keys_of_openssl_and_openssh(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    assert read_public_key(tmp_path / "key") == ALICE.public
    with pytest.raises(KeyRefused, match="expected a private key, found a public one"):
        read_private_key(tmp_path / "key")


def test_a_key_has_the_id_that_securesystemslib_gives_it() -> None:
    assert SSlibKey.from_crypto(made(1).public_key()).keyid == ALICE.public.id


def test_a_private_key_does_not_show_itself() -> None:
    assert "_key" not in repr(ALICE)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def encrypted_openssh(key: Made) -> bytes:
    """As `ssh-keygen` makes it of a password, as far as a reader without the password looks."""

    def text(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    magic = b"openssh-key-v1\0"
    lines = private_bytes(key, PrivateFormat.OpenSSH).splitlines()
    plain = base64.b64decode(b"".join(lines[1:-1])).removeprefix(magic + text(b"none") + text(b"none") + text(b""))
    size = 8 + int.from_bytes(plain[4:8], "big")  # one key and its public half
    options = text(b"0123456789abcdef") + (16).to_bytes(4, "big")
    private = plain[size + 4 :]
    shut = plain[:size] + text(private + bytes(-len(private) % 16))
    data = base64.b64encode(magic + text(b"aes256-ctr") + text(b"bcrypt") + text(options) + shut)
    return b"\n".join([lines[0], data, lines[-1], b""])


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "encrypted pkcs8": (lambda: private_bytes(made(1), password=b"secret"), "expected a key without a password"),
    "encrypted openssh": (
        lambda: encrypted_openssh(made(1)),
        "expected a key without a password",
    ),
    "encrypted as of old": (
        lambda: b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        "expected a key without a password",
    ),
    "rsa": (lambda: private_bytes(rsa_key()), "expected an Ed25519 key, found one of another algorithm"),
    "rsa openssh": (
        lambda: private_bytes(rsa_key(), PrivateFormat.OpenSSH),
        "expected an Ed25519 key, found one of another algorithm",
    ),
    "rsa as of old": (
        lambda: private_bytes(rsa_key(), PrivateFormat.TraditionalOpenSSL),
        "expected an Ed25519 key, found `RSA PRIVATE KEY`",
    ),
    "rsa public": (lambda: public_bytes(rsa_key()), "expected an Ed25519 key, found one of another algorithm"),
    "rsa line": (lambda: public_line(rsa_key()), "found 1 of ssh-rsa"),
    "elliptic": (
        lambda: private_bytes(ec.generate_private_key(ec.SECP256R1())),
        "expected an Ed25519 key, found one of another algorithm",
    ),
    "elliptic line": (lambda: public_line(ec.generate_private_key(ec.SECP256R1())), "found 1 of ecdsa-sha2-nistp256"),
    "x25519": (
        lambda: private_bytes(x25519.X25519PrivateKey.generate()),
        "expected an Ed25519 key, found one of another algorithm",
    ),
    "certificate": (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "found `CERTIFICATE`"),
    "two": (lambda: private_bytes(made(1)) + private_bytes(made(2)), "expected one key, found 2"),
    "two lines": (lambda: public_line(made(1)) + b"\n" + public_line(made(2)), "found 2 of ssh-ed25519"),
    "cut": (lambda: private_bytes(made(1))[:60], "found one that cannot be read"),
    "cut openssh": (lambda: private_bytes(made(1), PrivateFormat.OpenSSH)[:300], "found one that cannot be read"),
    "cut line": (lambda: public_line(made(1))[:40], "found one that cannot be read"),
    "base64": (
        lambda: b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
        "found one that cannot be read",
    ),
    "raw": (lambda: bytes([1]) * 32, "expected an Ed25519 key in PEM or of OpenSSH, found neither"),
    "empty": (lambda: b"", "expected an Ed25519 key in PEM or of OpenSSH, found neither"),
    "huge": (lambda: private_bytes(made(1)) + b"#" * 16384, "expected at most 16384 bytes"),
}


@pytest.mark.parametrize("name", list(REFUSED))
@pytest.mark.parametrize("read", [read_private_key, read_public_key])
def test_a_file_without_a_usable_key_is_refused_in_one_line_that_tells_nothing_of_it(
    tmp_path: Path, read: Callable[[Path], object], name: str
) -> None:
    make, message = REFUSED[name]
    data = make()
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(KeyRefused) as refusal:
        read(tmp_path / "key")
    text = str(refusal.value)
    assert text.startswith(f"{tmp_path / 'key'}: ")
    assert message in text
    assert "\n" not in text
    assert not any(line.decode("latin-1") in text for line in data.split() if len(line) > 30)


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "device", "loop"])
def test_what_is_no_file_is_no_key(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to("key")
    with pytest.raises(KeyRefused, match=r"cannot be opened|expected a regular file"):
        read_private_key(path)
