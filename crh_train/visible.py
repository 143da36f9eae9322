"""Text from anywhere, made fit for a terminal, which obeys control characters."""


def visible(text: str) -> str:
    """`text` in one line that only shows: what is not printable is written as Python does (`\\x1b`, `\\n`)."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
