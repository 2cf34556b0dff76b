"""The hello-world of Azure's how-to page, sent as printed there through the server's real HTTP API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

# https://learn.microsoft.com/azure/container-apps/sessions-code-interpreter, "Execute code in a session"
_API_VERSION = "2024-02-02-preview"
_BODY = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print('Hello, world!')"}}


def say_hello(connection: Mapping[str, Any]) -> str:
    """Request and answer, to be printed. Raises httpx.HTTPError where the server does not answer as it should."""
    endpoint = next(pool["endpoint"] for pool in connection["pools"].values() if pool)
    path = f"code/execute?api-version={_API_VERSION}&identifier=hello"
    headers = {"Authorization": f"Bearer {connection['token']}"}
    # trust_env off: a proxy of this machine has no part in a call to the machine itself.
    reply = httpx.post(f"{endpoint}/{path}", headers=headers, json=_BODY, timeout=60.0, trust_env=False)
    reply.raise_for_status()
    answer = reply.json()
    return f"POST …/{path}\n{json.dumps(_BODY)}\n\n{reply.status_code} {reply.reason_phrase}\n{json.dumps(answer, indent=1)}\n"
