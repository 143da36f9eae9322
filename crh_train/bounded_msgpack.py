"""Reading msgpack that nobody vouches for, value by value, so that what is wrong with one is found before the next
takes memory: 16 MiB of short strings in nested lists, unpacked at once, take 400. Knows no format.
"""

from collections.abc import Callable
from typing import Any

import msgpack


class BoundedValues:
    """The values in `packed`, one after the other.

    Args:
      max_items: elements, entries and containers within all the values that `next` returns.
      max_length: elements of a list or a map in such a value.
      max_text_bytes: of a string; a binary may be as long as `packed`.

    Ext types, a map with a duplicate key, and whatever is past a limit are `ValueError`.
    """

    def __init__(self, packed: bytes, *, max_items: int, max_length: int, max_text_bytes: int) -> None:
        self._max_items = max_items
        self._left = max_items
        self._unpacker = msgpack.Unpacker(
            list_hook=self._count,
            object_pairs_hook=self._mapping,
            max_buffer_size=len(packed),
            max_array_len=max_length,
            max_map_len=max_length,
            max_str_len=max_text_bytes,
            max_bin_len=len(packed),
            max_ext_len=0,
        )
        self._unpacker.feed(packed)

    def next(self, where: str) -> Any:
        """The next value; `where` is how an error names it."""
        return self._read(self._unpacker.unpack, where)

    def enter_map(self, where: str) -> int:
        """Step into a map, whose keys and values come next; the number of its entries, which is not limited."""
        length: int = self._read(self._unpacker.read_map_header, where)
        return length

    def enter_list(self, where: str) -> int:
        """Step into a list, whose elements come next; their number, which is not limited."""
        length: int = self._read(self._unpacker.read_array_header, where)
        return length

    def _read(self, read: Callable[[], Any], where: str) -> Any:
        try:
            return read()
        except (ValueError, TypeError, OverflowError, RecursionError, msgpack.OutOfData) as error:
            what = "it ends early" if isinstance(error, msgpack.OutOfData) else str(error) or type(error).__name__
            raise ValueError(f"{where}: is not the msgpack that the format allows: {what}") from error

    def _count(self, container: list[Any]) -> list[Any]:
        self._left -= 1 + len(container)
        if self._left < 0:
            raise ValueError(f"more than {self._max_items} items")
        return container

    def _mapping(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        found = dict(self._count(pairs))
        if len(found) != len(pairs):
            raise ValueError("a map with a duplicate key")
        return found
