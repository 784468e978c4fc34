"""Least recently used entries, bounded by bytes. Pure, one event loop."""

from collections import OrderedDict
from collections.abc import Callable

from gateway.entry import Entry


class ByteLRU:
    """Keeps what was used last within `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """The entry, now the most recently used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Remembers `entry`, forgetting the least recently used; one that cannot fit is not kept."""
        self.remove(key)
        if entry.size > self._limit:
            return
        self._entries[key] = entry
        self.bytes += entry.size
        while self.bytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.size

    def drop(self, covered: Callable[[str], bool]) -> int:
        """Forgets every entry whose key is covered; how many those were."""
        gone = [key for key in self._entries if covered(key)]
        for key in gone:
            self.remove(key)
        return len(gone)

    def remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
