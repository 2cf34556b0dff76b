"""What every scenario script is written with; standard library only, since it runs in the clients' environments.

A scenario is a script whose functions named `check_…` each prove what their docstring says. `run` calls them in the order they are
written and prints one line of JSON for each: {"check": name, "ok": bool, "detail": the docstring, or what went wrong}. Coroutine
functions share one event loop. A failed check does not stop the others; the exit status is 1 if any failed.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The server to talk to, as test_clients.py hands it over.
ENDPOINT = os.environ["CARREL_ENDPOINT"]
HTTPS_ENDPOINT = os.environ["CARREL_HTTPS_ENDPOINT"]
TOKEN = os.environ["CARREL_TOKEN"]


def new_identifier(prefix: str) -> str:
    """A session nobody else has, also when scenarios are repeated against one server."""
    return f"{prefix}-{uuid4()}"


def run(scenario: dict[str, Any]) -> None:
    """Run the `check_…` functions of a scenario's globals() and exit."""
    checks = [value for name, value in scenario.items() if name.startswith("check_") and callable(value)]
    sys.exit(0 if asyncio.run(_run_all(checks)) else 1)


async def _run_all(checks: list[Callable[[], Any]]) -> bool:
    return all([await _report(check) for check in checks])


async def _report(check: Callable[[], Any]) -> bool:
    ok, detail = True, inspect.getdoc(check)
    try:
        outcome = check()
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:  # whatever a package raises is this check's finding; the other checks still run
        ok, detail = False, traceback.format_exc()
    print(json.dumps({"check": check.__name__, "ok": ok, "detail": detail}), flush=True)
    return ok


def equal(actual: object, expected: object) -> None:
    if actual != expected:
        raise AssertionError(f"got {actual!r}, expected {expected!r}")


def contains(text: str, *parts: str) -> None:
    for part in parts:
        if part not in text:
            raise AssertionError(f"{part!r} is not in {text!r}")


def lacks(text: str, *parts: str) -> None:
    for part in parts:
        if part in text:
            raise AssertionError(f"{part!r} is in {text!r}")


@contextmanager
def raises(kind: type[BaseException]) -> Iterator[SimpleNamespace]:
    """The block must raise `kind`; the error is `.error` afterwards."""
    caught = SimpleNamespace(error=None)
    try:
        yield caught
    except kind as error:
        caught.error = error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")
