"""Tables and blocks of code as Markdown has them."""

from collections.abc import Iterable, Sequence


def code(lines: Iterable[str]) -> str:
    return "\n".join(["```", *lines, "```"])


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 0) -> str:
    """A Markdown table whose last `numeric` columns are aligned to the right."""
    rules = ["---"] * (len(header) - numeric) + ["---:"] * numeric
    lines = [header, rules, *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
