"""Strict JSON: what it takes is what Python's own reader takes, what it refuses and why, and what refusing costs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import outputs, start_python

from crh_train.plain_json import MAX_BYTES, MAX_DEPTH, MAX_MARKS, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBER = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)


def reason(data: bytes) -> str:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(data)
    assert len(str(raised.value)) < 120
    assert "\n" not in str(raised.value)
    return str(raised.value)


@given(VALUE, st.booleans())
def test_what_was_written_is_read(value: object, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary() | st.text("[]{}:,\"\\u0d81Ee+-. ntf'", max_size=30).map(str.encode))
def test_whatever_is_read_is_what_pythons_reader_reads(data: bytes) -> None:
    try:
        value = parse(data)
    except ValueError:
        return
    assert value == json.loads(data.decode())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "Expecting value: "),
        (b"{} {}", "Extra data: "),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM"),
        (b'"\xff"', "'utf-8' codec can't decode byte 0xff"),
        (b'"\xed\xa0\x80"', "'utf-8' codec can't decode byte 0xed"),
        ("{}".encode("utf-16"), "'utf-8' codec can't decode byte"),
        (b'"\t"', "Invalid control character"),
        (b'["\\ud800"]', "expected whole characters other than NUL, "),
        (b'{"\\udfff": 1}', "expected whole characters other than NUL, "),
        (b'{"a": [{"b": "\\u0000"}]}', "expected whole characters other than NUL, "),
        (b"NaN", "expected finite numbers, found NaN"),
        (b"[-Infinity]", "expected finite numbers, found -Infinity"),
        (b"1e999", "expected finite numbers, found 1e999"),
        (b'{"a": 1, "b": 2, "a": 1}', "expected each key once, found 'a' twice"),
        (b'[{"\\u0061": 1, "a": 2}]', "expected each key once, found 'a' twice"),
        (b'{"%b": 1, "%b": 1}' % ((b"k" * 99_999,) * 2), "expected each key once, found 'kkkk"),
        (b"9" * 21, "expected integers of at most 20 characters, found 21"),
        (b"9" * 5000, "expected integers of at most 20 characters, found 5000"),
        (b"0." + b"1" * 63, "expected numbers of at most 64 characters, found 65"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "expected at most 64 levels of lists and objects"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "expected at most 64 levels of lists"),
        (b"[" * 200_000, "expected at most 64 levels of lists and objects"),
        (b'{"a":' * 200_000, "expected at most 64 levels of lists and objects"),
    ],
    ids=range(23),
)
def test_what_is_not_strict_is_refused_in_a_few_words(data: bytes, says: str) -> None:
    assert reason(data).startswith(says)


def test_the_limits_themselves_are_allowed() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) == eval("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse(b"-" + b"9" * 19) == -(10**19 - 1)
    assert parse(b"0." + b"1" * 62) == float("0." + "1" * 62)
    assert parse(b'"\\ud83d\\ude00 \\\\u0000"') == "😀 \\u0000"


LARGE = """
import resource, tracemalloc
from crh_train import plain_json

def repeated(unit, end):
    return b"[" + unit * ((128 << 20) // len(unit)) + end

makers = [
    lambda: repeated(b"[],", b"[]]"), lambda: repeated(b"{},", b"{}]"), lambda: repeated(b"1,", b"1]"),
    lambda: repeated(b"[", b""), lambda: repeated(b'"":', b""), lambda: b'"' + b"x" * (128 << 20) + b'"',
    lambda: b"[" + b"1," * plain_json.MAX_MARKS + b"1]",
]
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for make in makers:
    data = make()
    tracemalloc.start()
    try:
        plain_json.parse(data)
    except ValueError as error:
        print(tracemalloc.get_traced_memory()[1] < 1 << 20, error)
    tracemalloc.stop()
"""


def test_refusing_a_large_document_costs_no_memory() -> None:
    (said,) = outputs(start_python(LARGE, []))
    lines = said.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("True expected at most ") for line in lines), lines
    assert f"at most {MAX_BYTES} bytes" in lines[0]
    assert f"at most {MAX_MARKS} commas" in lines[-1]
