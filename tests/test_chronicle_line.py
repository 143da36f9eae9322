"""A line of the chronicle: its text is its record, and no other text is one."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from store_samples import make_record

from crh_train.chronicle import float32_text, format_line, parse_line
from crh_train.errors import CorruptChronicle


def bits(value: np.float32) -> int:
    return int(np.asarray(value, np.float32).view(np.uint32))


@given(st.integers(0, 2**32 - 1))
def test_a_float_reads_back_through_any_json_reader_to_the_same_bits(pattern: int) -> None:
    value = np.uint32(pattern).view(np.float32)
    text = float32_text(value)
    if np.isfinite(value):
        assert bits(np.float32(json.loads(text))) == pattern
        assert len(text.lstrip("-0.").partition("e")[0].replace(".", "").rstrip("0")) <= 9
    else:
        assert bits(np.float32(float(json.loads(text)))) in (pattern, bits(np.float32("nan")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(("0", "0.0"), ("-0", "-0.0"), ("1", "1.0"), ("0.1", "0.1"), ("3e-4", "0.0003"), ("1e-5", "1e-05")),
        *(
            ("1e8", "100000000.0"),
            ("1e20", "1e+20"),
            ("16777216", "16777216.0"),
            ("3.4028235e38", "3.4028235e+38"),
            ("1e-45", "1e-45"),
        ),
        *(("nan", '"NaN"'), ("inf", '"Infinity"'), ("-inf", '"-Infinity"')),
    ],
)
def test_floats_are_written_in_the_shortest_way(value: str, text: str) -> None:
    assert float32_text(np.float32(value)) == text


def test_the_float_whose_shortest_text_is_rounded_twice() -> None:
    value = np.nextafter(np.float32(7.0385313e-26), np.float32(0))
    assert np.float32(float(str(value))) != value
    assert np.float32(float(float32_text(value))) == value


def test_golden_line() -> None:
    assert format_line(make_record(4), 5234.37) == (
        b'{"epoch":1,"batch":1,"loss":0.25,"coherence":0.5,"lr":0.0003,"grad_norm":"NaN",'
        b'"timestamp":     5234.370000,"step":4}\n'
    )


@example((3.4028234663852886e38, -3.4028234663852886e38, 1e-45, 7.038530691851209e-26), 0.0, 0, 1)
@given(st.tuples(*[st.floats(width=32)] * 4), st.floats(0, 1e8), st.integers(0, 2**40), st.integers(1, 2**40))
def test_a_line_reads_back_to_the_same_record(
    values: tuple[float, float, float, float], timestamp: float, batch: int, step: int
) -> None:
    loss, coherence, lr, grad_norm = (np.float32(value) for value in values)
    record = make_record(1)._replace(batch=batch, step=step, loss=loss, coherence=coherence, lr=lr, grad_norm=grad_norm)
    line = format_line(record, timestamp)
    json.loads(line)
    found = parse_line(line, 1)
    assert format_line(found, found.timestamp) == line
    for name, value in record._asdict().items():
        if isinstance(value, np.float32):
            assert bits(getattr(found, name)) == bits(value) or np.isnan(value)
        elif name != "timestamp":
            assert getattr(found, name) == value


@pytest.mark.parametrize("timestamp", [-1.0, 1e9, float("nan"), float("inf"), -1e-9])
def test_a_timestamp_outside_its_width_is_refused(timestamp: float) -> None:
    with pytest.raises(CorruptChronicle, match="expected a timestamp"):
        format_line(make_record(1), timestamp)


GOOD = format_line(make_record(4), 2.0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"}\n", b"}"),
        (b"}\n", b"}\r\n"),
        (b"}\n", b"}\n\n"),
        (b'"epoch":1', b'"epoch": 1'),
        (b'"epoch":1', b'"epoch":01'),
        (b'"epoch":1', b'"epoch":1.0'),
        (b'"epoch":1', b'"epoch":true'),
        (b'"epoch":1', b'"epoch":-1'),
        (b'"epoch":1', b'"epoch":"1"'),
        (b'"epoch":1,"batch":1', b'"batch":1,"epoch":1'),
        (b'"epoch":1,', b""),
        (b'"epoch":1,', b'"epoch":1,"epoch":1,'),
        (b'"step":4', b'"step":4,"more":1'),
        (b'"loss":0.25', b'"loss":0.250'),
        (b'"loss":0.25', b'"loss":25e-2'),
        (b'"loss":0.25', b'"loss":0.25000000001'),
        (b'"loss":0.25', b'"loss":1e39'),
        (b'"loss":0.25', b'"loss":3.4028235677973366e+38'),
        (b'"loss":0.25', b'"loss":1e999'),
        (b'"loss":0.25', b'"loss":1'),
        (b'"loss":0.25', b'"loss":NaN'),
        (b'"loss":0.25', b'"loss":null'),
        (b'"loss":0.25', b'"loss":"nan"'),
        (b'"loss":0.25', b'"loss":[0.25]'),
        (b'"loss":0.25', b'"loss":{"x":0.25}'),
        (b'"NaN"', b'"\\u004eaN"'),
        (b'"NaN"', b'"\xff"'),
        (b"        2.000000", b"2.0"),
        (b"        2.000000", b"        2.0000001"),
        (b"        2.000000", b"               2"),
        (b"        2.000000", b'"        2.000000"'),
        (b'"lr"', b'"l\\u0072"'),
        (b"4}", b"4" * 5000 + b"}"),
        (GOOD, b""),
        (GOOD, b"\n"),
        (GOOD, b"[" * 4000 + b"\n"),
        (GOOD, b'["epoch","batch","loss","coherence","lr","grad_norm","timestamp","step"]\n'),
        (GOOD, b"\xef\xbb\xbf" + GOOD),
    ],
)
def test_any_other_text_is_refused_with_its_line_number(old: bytes, new: bytes) -> None:
    assert old in GOOD
    assert parse_line(GOOD, 17).step == 4
    with pytest.raises(CorruptChronicle, match=r"chronicle.jsonl line 17: "):
        parse_line(GOOD.replace(old, new), 17)
