"""Laws of the table of primitives: what the package's docstring lists is what there is, and nothing is forgotten."""

import re
from pathlib import Path

import jax
import pytest
from jax import lax

import crh_train.portable
from crh_train.errors import NotPortable
from crh_train.portable import portable, table
from crh_train.portable.rules import Kind
from crh_train.portable.table import RULES

OF_LAX, FROM_ELSEWHERE = "**Primitives of jax.lax**", "**Primitives from elsewhere**"


def listed(text: str) -> list[tuple[str, str]]:
    """(primitive, class) of each entry `- *class* (reason): primitive primitive …`."""
    entries = re.findall(r"^- \*([^*]+)\* \([^)]*\): ((?:.+\n)(?:  .+\n)*)", text, re.MULTILINE)
    return [(name, kind) for kind, names in entries for name in names.split()]


def docstring() -> str:
    assert crh_train.portable.__doc__ is not None
    return crh_train.portable.__doc__


def in_lax() -> list[tuple[str, str]]:
    return listed(docstring().partition(OF_LAX)[2].partition(FROM_ELSEWHERE)[0])


def from_elsewhere() -> list[tuple[str, str]]:
    return listed(docstring().partition(FROM_ELSEWHERE)[2])


def primitives_of_lax() -> set[str]:
    """The names of the primitives that this version of jax.lax exports."""
    return {getattr(lax, name).name for name in dir(lax) if name.endswith("_p")}


def test_every_primitive_is_listed_once_under_its_class() -> None:
    entries = in_lax() + from_elsewhere()
    assert len(entries) == len(dict(entries)) > 150
    assert dict(entries) == {name: rule.kind.value for name, rule in RULES.items()}
    assert {kind for _, kind in entries} == {kind.value for kind in Kind}


def test_no_primitive_of_lax_is_forgotten() -> None:
    assert primitives_of_lax() <= set(dict(in_lax()))


def test_what_is_from_elsewhere_is_not_in_lax() -> None:
    assert primitives_of_lax().isdisjoint(dict(from_elsewhere()))
    assert {"random_bits", "jit", "remat2", "shard_map", "custom_vjp_call"} <= set(dict(from_elsewhere()))


def test_lists_are_sorted() -> None:
    for entries in (in_lax(), from_elsewhere()):
        kinds = [kind.value for kind in Kind if kind.value in dict(entries).values()]
        assert entries == sorted(entries, key=lambda entry: (kinds.index(entry[1]), entry[0]))


def test_each_file_is_in_the_order_of_reading() -> None:
    order = docstring().partition("**In order of reading.**")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", order)
    files = [path.stem for path in Path(table.__file__).parent.glob("*.py") if path.stem != "__init__"]
    assert sorted(named) == sorted(files)


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.kind is Kind.REFUSED))
def test_what_is_refused_says_why(name: str) -> None:
    assert len(RULES[name].reason) > 10


def test_only_what_is_refused_has_a_reason() -> None:
    assert {rule.kind for rule in RULES.values() if rule.reason} == {Kind.REFUSED}
    reason = re.escape(RULES["zeta"].reason)
    with pytest.raises(NotPortable, match=f"zeta is not portable here: {reason}, or determinism=native, at "):
        portable(lambda x: jax.scipy.special.zeta(x, x))(2.0)
