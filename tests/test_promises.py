"""What each level of determinism promises."""

import pytest

from crh_train.config import PARTS
from crh_train.errors import UsageError
from crh_train.promises import PROMISES, depends_on_machine, promise, sentence

DIFFERENCES = ["software.jax: 0.10.2 in the run, 0.11.0 here", "threads: 2 in the run, 4 here"]


def test_native_promises_the_same_bits_under_the_same_fingerprint_only() -> None:
    assert promise("native", []) == (True, "same machine fingerprint: native determinism promises the same bits here")
    kept, said = promise("native", DIFFERENCES)
    assert not kept
    assert said == (f"another machine fingerprint ({'; '.join(DIFFERENCES)}): native determinism promises no bits here")


def test_portable_promises_them_everywhere_and_says_where_here_is() -> None:
    said = "portable arithmetic: the same bits are promised on every machine"
    assert promise("portable", []) == (True, said)
    assert promise("portable", DIFFERENCES) == (True, f"{said}; what differs here: software, threads")


def test_a_level_of_a_third_party_promises_no_more_than_native() -> None:
    assert [level for level in ("native", "portable", "quantum") if depends_on_machine(level)] == ["native", "quantum"]
    assert promise("quantum", DIFFERENCES)[0] is False


def test_every_level_has_its_sentence() -> None:
    assert PROMISES.keys() == PARTS["determinism"].keys()
    assert [sentence(level) for level in PROMISES] == list(PROMISES.values())
    with pytest.raises(UsageError, match=r"'quantum' has no sentence.*known: portable, native"):
        sentence("quantum")
