"""A PNG in a terminal: by kitty's graphics protocol or iTerm2's inline images where the terminal says that it has them,
else as half blocks in 24-bit colour, two pixels a character.

Which terminal it is, the environment says; nothing is asked of the terminal itself, whose answer another program might
read. Inside tmux or screen, which pass neither protocol on, pictures are half blocks.

Sources: https://sw.kovidgoyal.net/kitty/graphics-protocol/, https://iterm2.com/documentation-images.html
"""

import base64
import io
from collections.abc import Mapping

from rich.color import Color
from rich.style import Style
from rich.text import Text

from crh_train.errors import CorruptRun

MAX_BYTES = 64 << 20  # of the PNG
_MAX_PIXELS = 64 << 20
_CHUNK = 4096  # characters of base64 in one of kitty's commands
_KITTY = {"kitty", "ghostty"}
_ITERM2 = {"iTerm.app", "WezTerm"}


def protocol(environ: Mapping[str, str]) -> str | None:
    """ "kitty" or "iterm2", where the terminal says so; None for any other."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or "STY" in environ or term.startswith(("tmux", "screen")):
        return None
    if "KITTY_WINDOW_ID" in environ or term == "xterm-kitty" or program in _KITTY:
        return "kitty"
    return "iterm2" if program in _ITERM2 or environ.get("LC_TERMINAL", "") == "iTerm2" else None


def escape(png: bytes, by: str, columns: int) -> str:
    """What shows `png` as wide as `columns` on a terminal with the protocol `by`."""
    text = base64.standard_b64encode(png).decode()
    if by == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(png)};width={columns};preserveAspectRatio=1:{text}\x07\n"
    chunks = [text[begin : begin + _CHUNK] for begin in range(0, len(text), _CHUNK)]
    more = [f"m={int(index < len(chunks) - 1)}" for index in range(len(chunks))]
    more[0] = f"a=T,f=100,q=2,c={columns},{more[0]}"  # a PNG, shown at once, without an answer
    return "".join(f"\x1b_G{keys};{chunk}\x1b\\" for keys, chunk in zip(more, chunks, strict=True)) + "\n"


def half_blocks(png: bytes, columns: int) -> Text:
    """`png` in `columns` columns. Raises `CorruptRun` where it is no picture of a size that one looks at."""
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if (pixels := image.width * image.height) > _MAX_PIXELS:
                raise ValueError(f"has {pixels} pixels, expected at most {_MAX_PIXELS}")
            rows = max(round(columns * image.height / image.width / 2), 1)
            small = np.asarray(image.convert("RGB").resize((columns, 2 * rows), Image.Resampling.BOX)).tolist()
    except (OSError, ValueError, SyntaxError) as error:  # the last is how Pillow says: no PNG
        raise CorruptRun(f"the picture cannot be read: {error}") from error
    text = Text(no_wrap=True)
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    return text
