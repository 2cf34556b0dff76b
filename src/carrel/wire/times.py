"""Times as they stand in replies."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache

_LAST = 253_402_300_799  # the end of the year 9999, the last that fits four digits


def timestamp(unix_s: float) -> str:
    """UTC with seven decimals and `Z`, as Azure writes it; the last is 0, since a float of today holds no more than microseconds.

    Times out of range (a guest may set any on a file) become the epoch.
    """
    if not 0 <= unix_s <= _LAST:
        unix_s = 0.0
    seconds = int(unix_s)
    microseconds = min(round((unix_s - seconds) * 1_000_000), 999_999)
    return f"{_second(seconds)}.{microseconds:06d}0Z"


@lru_cache(256)
def _second(seconds: int) -> str:
    """Most of a timestamp's cost, and mostly the same one as a moment before: each reply has one."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def http_date(unix_s: float) -> str:
    """An HTTP date (RFC 9110 §5.6.7), with the same rule for times out of range."""
    return formatdate(unix_s if 0 <= unix_s <= _LAST else 0.0, usegmt=True)


def go_duration(seconds: float) -> str:
    """A duration as Go prints it, e.g. `42m56.970311818s`; below a second always in milliseconds, which keeps the header ASCII."""
    if seconds < 1:
        return f"{seconds * 1000:.6f}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.9f}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
