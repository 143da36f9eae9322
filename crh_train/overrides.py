"""The words `KEY=VALUE` of a command line, in Hydra's grammar: what they say, and the runs that a sweep makes.

That grammar knows few letters: it cannot read `KEY=Müller`, `KEY=t/a (2)` or `KEY=a=b`. There VALUE is taken as text,
as it stands, unless it holds a character that means structure, so that a mistake in a list stays a mistake.
"""

import itertools
import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from crh_train.errors import ConfigError
from crh_train.plain_yaml import interpolations

MAX_CHARACTERS = 8192
"""Of all words together: Hydra's grammar takes seconds for a list of so many, and more than twice as long for twice as
many."""
MAX_DEPTH = 16  # brackets within one another
MAX_RUNS = 10_000
_MAX_ADVICE = 160  # characters of a word that an error says to write

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_TEXT = re.compile(r"""(?![A-Za-z_][A-Za-z0-9_-]*\()[^'"\[\]{}$\\,]+""")  # and no call of a function, such as range(3)


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Each of `overrides`, read; its `input_line` is what Hydra itself can read.

    Raises `ConfigError` on bad grammar, resolvers, or more than a command line holds.
    """
    if (length := sum(map(len, overrides))) > MAX_CHARACTERS:
        raise ConfigError(
            f"expected at most {MAX_CHARACTERS} characters of KEY=VALUE, found {length}; write a file in ./conf instead"
        )
    parser = OverridesParser.create()
    # A configuration is the same each time that it is read.
    del parser.functions.functions["shuffle"], parser.functions.definitions["shuffle"]
    return [_parsed(parser, text) for text in overrides]


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """The product of all comma-separated values in `overrides` (Hydra's grammar), in the order given.

    One list of overrides for each run; without any sweep, one list. Raises `ConfigError` on bad grammar, and for more
    than `MAX_RUNS` runs before it makes them.
    """
    alternatives, runs = [], 1
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        alternatives.append(_alternatives(text, override))
        runs *= len(alternatives[-1])
        if not runs:
            raise ConfigError(f"{text!r:.80} gives no value; list its values, as in KEY=A,B")
        if runs > MAX_RUNS:
            raise ConfigError(
                f"expected at most {MAX_RUNS} runs in a sweep, found more at {text!r:.80}; give it in parts"
            )
    return [list(combination) for combination in itertools.product(*alternatives)]


def as_text(text: str) -> str:
    """How to write `KEY=VALUE` so that VALUE is one text, quoted for Hydra and once more for a shell."""
    key, _, value = text.partition("=")
    word = shlex.quote(f"{key}={_quoted(value)}")
    return word if word.isprintable() and len(word) <= _MAX_ADVICE else "'KEY=\"VALUE\"'"


def first_line(error: Exception) -> str:
    """Its first line, or that of its cause where it says nothing, and the next where that one only announces it. Cut
    short, and without what a terminal would obey."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return first_line(error.__cause__) if isinstance(error.__cause__, Exception) else type(error).__name__
    end = next((number for number, line in enumerate(lines, start=1) if not line.endswith(":")), len(lines))
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in f"{' '.join(lines[:end]):.200}")


def _parsed(parser: OverridesParser, text: str) -> Override:
    interpolations(text, "the command line")
    depth = itertools.accumulate((character in "[{(") - (character in "]})") for character in text)
    if max(depth, default=0) > MAX_DEPTH:
        raise ConfigError(f"{text!r:.80} nests more than {MAX_DEPTH} brackets; write its value flatter")
    key, equals, value = text.partition("=")
    try:
        return parser.parse_override(text)
    except ValueError as error:  # Python's own for a number of too many digits
        raise ConfigError(f"cannot read {text!r:.80} as KEY=VALUE: {first_line(error)}") from error
    except HydraException as error:
        if not equals or not _KEY.fullmatch(key) or "${" in value:
            raise ConfigError(f"cannot read {text!r:.80} as KEY=VALUE: {first_line(error)}") from error
        if not _TEXT.fullmatch(value) or not value.isprintable():
            each = ", for several quote each" if "," in value else ""
            raise ConfigError(
                f"cannot read {text!r:.80} as KEY=VALUE: {first_line(error):.80}; for one text write "
                f"{as_text(text)}{each}"
            ) from error
    return parser.parse_override(f"{key}={_quoted(value)}")


def _quoted(value: str) -> str:
    return QuotedString(value, Quote.double).with_quotes()


def _alternatives(text: str, override: Override) -> list[str]:
    """`text`, or each value of a sweep; at most one more than `MAX_RUNS`, for a range may be endless."""
    if not override.is_sweep_override():
        return [text]
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), MAX_RUNS + 1))
    except (HydraException, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{text!r:.80} cannot be enumerated; list its values, as in KEY=A,B") from error
    return [f"{override.get_key_element()}={value}" for value in values]
