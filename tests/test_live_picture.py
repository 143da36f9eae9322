"""Pictures in a terminal: what is sent is what the protocols say, and only to who speaks them."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from crh_train.errors import CorruptRun
from crh_train.live import picture


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


NOISE = png(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


@pytest.mark.parametrize(
    ("environ", "by"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-256color"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-256color", "TMUX": "x"}, None),
        ({"KITTY_WINDOW_ID": "1", "TERM": "screen-256color"}, None),
        ({"TERM_PROGRAM": "iTerm.app", "STY": "x"}, None),
        ({}, None),
    ],
)
def test_a_protocol_is_spoken_where_the_terminal_says_that_it_has_it(environ: dict[str, str], by: str | None) -> None:
    assert picture.protocol(environ) == by


def test_kitty_gets_the_bytes_in_chunks_the_last_of_which_says_so() -> None:
    sent = picture.escape(NOISE, "kitty", 40)
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sent)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in commands) + "\n" == sent
    assert base64.b64decode("".join(data for _, data in commands), validate=True) == NOISE
    assert len(commands) > 2
    assert commands[0][0] == "a=T,f=100,q=2,c=40,m=1"
    assert [keys for keys, _ in commands[1:]] == ["m=1"] * (len(commands) - 2) + ["m=0"]
    assert all(len(data) == 4096 for _, data in commands[:-1])


def test_iterm2_gets_the_bytes_at_once() -> None:
    sent = picture.escape(NOISE, "iterm2", 40)
    found = re.fullmatch(r"\x1b]1337;File=inline=1;size=(\d+);width=40;preserveAspectRatio=1:([^\x07]*)\x07\n", sent)
    assert found is not None
    assert (int(found[1]), base64.b64decode(found[2], validate=True)) == (len(NOISE), NOISE)


def test_half_blocks_have_the_upper_pixel_before_the_lower_one() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    text = picture.half_blocks(png(pixels), 2)
    assert text.plain == "▀▀\n"
    colours = [(span.style.color.triplet, span.style.bgcolor.triplet) for span in text.spans]  # type: ignore[union-attr]
    assert colours == [((255, 0, 0), (0, 0, 255)), ((0, 255, 0), (9, 9, 9))]
    assert picture.half_blocks(NOISE, 40).plain.count("\n") == 15  # 80 × 60, and a character is two pixels high


@pytest.mark.parametrize("data", [b"", b"no picture", NOISE[:100], b"GIF89a" + bytes(50)])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptRun, match="the picture cannot be read"):
        picture.half_blocks(data, 40)


def test_a_picture_of_absurd_size_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "_MAX_PIXELS", 4799)
    with pytest.raises(CorruptRun, match="has 4800 pixels, expected at most 4799"):
        picture.half_blocks(NOISE, 40)
