"""The hello-world of Azure's how-to page, sent as printed there through the server's real HTTP API."""

from __future__ import annotations

import json

import httpx

from carrel.models import ContainerType

# https://learn.microsoft.com/azure/container-apps/sessions-code-interpreter, "Execute code in a session"
_API_VERSION = "2024-02-02-preview"
_CODE = {
    ContainerType.PYTHON: "print('Hello, world!')",
    ContainerType.NODE: "console.log('Hello, world!')",
    ContainerType.SHELL: "echo 'Hello, world!'",
}


def say_hello(token: str, endpoint: str, kind: ContainerType) -> str:
    """Request and answer, to be printed. Raises httpx.HTTPError where the server does not answer as it should."""
    body = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": _CODE[kind]}}
    path = f"code/execute?api-version={_API_VERSION}&identifier=hello"
    headers = {"Authorization": f"Bearer {token}"}
    # trust_env off: a proxy of this machine has no part in a call to the machine itself.
    reply = httpx.post(f"{endpoint}/{path}", headers=headers, json=body, timeout=60.0, trust_env=False)
    reply.raise_for_status()
    answer = reply.json()
    return f"POST …/{path}\n{json.dumps(body)}\n\n{reply.status_code} {reply.reason_phrase}\n{json.dumps(answer, indent=1)}\n"
