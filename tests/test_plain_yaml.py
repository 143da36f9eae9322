"""What a configuration file may hold: each thing that is not plain is refused by its line, and the limits are exact."""

import pytest

from crh_train.errors import ConfigError
from crh_train.plain_yaml import MAX_CHARACTERS, MAX_DEPTH, MAX_INTERPOLATED, MAX_NODES, interpolations, vet


def refusal(data: bytes) -> str:
    with pytest.raises(ConfigError) as raised:
        vet(data, "a.yaml")
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 300
    return message.removeprefix("a.yaml")


def nested(levels: int) -> bytes:
    return b"a: " + b"[" * (levels - 1) + b"]" * (levels - 1)


def items(count: int) -> bytes:
    """A file of `count` nodes: the mapping, its key, its list, and so many less three."""
    return b"a: [" + b",".join([b"1"] * (count - 3)) + b"]"


def test_what_is_vetted_is_counted_and_kept_as_it_is() -> None:
    text = "# é\r\nb: {c: '${d}${e}', d: [1, ~]}\r\n"
    assert vet(text.encode(), "a.yaml") == (text, 9, 2)
    assert vet(b"\xef\xbb\xbf" + text.encode(), "a.yaml").text == text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        # no plain document
        (b"", ": expected keys and values, found none; "),
        (b"# a\n", ": expected keys and values, found none; "),
        (b"\n- a\n", ", line 2: expected keys and values at the top level"),
        (b"a", ", line 1: expected keys and values at the top level"),
        (b"a: 1\n---\nb: 2\n", ", line 2: expected one document, found another; "),
        (b"a: 1\n...\n# c\n---\n", ", line 4: expected one document, found another; "),
        # no plain text
        (b"a: 1\nb: \xe9\n", ", line 2: expected UTF-8, "),
        (b"a: \xed\xa0\x80", ", line 1: expected UTF-8, "),
        ("a: 1".encode("utf-16"), ", line 1: expected UTF-8, "),
        (b"a: 1\n# \0\n", r", line 2: expected text, found '\x00'; "),
        (b"a: \x1b[2J", r", line 1: expected text, found '\x1b'; "),
        (b"a: [\n", ", line 2: expected YAML: "),
        (b"a:\n\tb: 1\n", ", line 2: expected YAML: "),
        (b"%TAG ! x:\n%TAG ! y:\n---\na: 1\n", ", line 2: expected YAML: duplicate tag handle"),
        # what says the same twice, or something else
        (b"a: &x 1", ", line 1: anchors and aliases are refused; "),
        (b"a: &x [1]", ", line 1: anchors and aliases are refused; "),
        (b"a:\n  *x : 1", ", line 2: anchors and aliases are refused; "),
        (b"&x a: 1", ", line 1: anchors and aliases are refused; "),
        (b"a: !!int '1'", ", line 1: the tag 'tag:yaml.org,2002:int' is refused: "),
        (b"a: ! 1", ", line 1: the tag '!' is refused: "),
        (b"!x\na: 1", ", line 1: the tag '!x' is refused: "),
        (b"a: !" + b"x" * 9999 + b" 1", ", line 1: the tag '!xxx"),
        (b"a: 1\nb: 2\na: 3\n", ", line 3: expected each key once, found 'a' again; "),
        (b"a: {b: {}, 'b': 1}", ", line 1: expected each key once, found 'b' again; "),
        (b"a: [{b: 1}, {b: [], b: 1}]", ", line 1: expected each key once, found 'b' again; "),
        (b"a:\n  <<: {b: 1}\n", ", line 2: the merge key '<<' is refused; "),
        (b"? [a]\n: 1\n", ", line 1: expected a name as a key, "),
        (b"? {a: 1}\n: 1\n", ", line 1: expected a name as a key, "),
        (b"a: ${oc.env:HOME}", ", line 1: '${oc.env:HOME}' is refused: resolvers reach outside"),
        (b'a: "\\x24{oc.env:HOME}"', ", line 1: '${oc.env:HOME}' is refused: "),
        (b"${a:b}: 1", ", line 1: '${a:b}' is refused: "),
        # too much
        (b"a: " + b"x" * (MAX_CHARACTERS + 1), ", line 1: expected at most 1024 characters, found 1025; "),
        (b"a: ${b}" + b"x" * MAX_INTERPOLATED, ", line 1: expected at most 256 characters in a text with an interp"),
        (nested(MAX_DEPTH + 1), ", line 1: expected at most 16 levels, "),
        (b"a: " + b"[" * 30_000, ", line 1: expected at most 16 levels, "),
        (b"- " * 30_000, ", line 1: expected keys and values at the top level"),
        (b"a: \n " + b"- " * 30_000, ", line 2: expected at most 16 levels, "),
        (b"? " * 30_000, ", line 1: expected a name as a key, "),
        (items(MAX_NODES + 1), ", line 1: expected at most 4096 keys and values, "),
    ],
    ids=range(39),
)
def test_what_is_not_plain_is_refused_by_its_line(data: bytes, says: str) -> None:
    assert refusal(data).startswith(says)


def test_the_limits_themselves_are_allowed() -> None:
    assert vet(nested(MAX_DEPTH), "a.yaml").nodes == MAX_DEPTH + 1
    assert vet(items(MAX_NODES), "a.yaml").nodes == MAX_NODES
    assert vet(b"a: " + b"x" * MAX_CHARACTERS, "a.yaml").nodes == 3
    assert interpolations("${a}".ljust(MAX_INTERPOLATED), "here") == 1


@pytest.mark.parametrize(
    "text", ["${a:b}", "${${a}:b}", r"\${a:b}", r"\\${a:}", "${a\n:b}", "x ${a} y: z", "${a['b:c']}"]
)
def test_every_resolver_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is refused: resolvers reach outside the configuration"):
        interpolations(text, "here")


def test_interpolations_are_counted() -> None:
    assert [interpolations(text, "here") for text in ("", "a: b", "$a", "${a}", "${a.${b}}-${..c}")] == [0, 0, 0, 1, 3]
