"""UTF-8 that comes in pieces."""

from __future__ import annotations


def whole(data: bytes | bytearray | memoryview) -> int:
    """How many bytes of `data` come before a character that its end has cut in two."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue  # not a character's first byte
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return len(data) - back if length > back else len(data)
    return len(data)
