"""The authority serves after its process has given up every right: it opens no file and imports no module that it had not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

NOBODY = 54321

WORKER = """
import asyncio, json, sys, time
from pathlib import Path
from urllib.parse import urlencode
from carrel.guest import linux
from carrel.server.authority.approving import Approving
from carrel.server.authority.devices import Devices
from carrel.server.authority.directory import AZURE_CLI, Directory
from carrel.server.authority.endpoint import Authority
from carrel.server.authority.hashing import Hasher, digest_of
from carrel.server.authority.refreshing import Refreshing
from carrel.server.authority.resources import Resources
from carrel.server.authority.throttle import Throttle
from carrel.server.authority.tokens import Tokens
from carrel.server.edge import Edge
from carrel.server.metrics.requests import Requests
from carrel.storage import State
from carrel.store import CredentialRecord, PrincipalRecord, Store
from carrel.troubles import Troubles

folder, uid = Path(sys.argv[1]), int(sys.argv[2])
state = State(folder)
store = Store.open(f"sqlite:///{folder}/carrel.db", state.store_keys())
with store.transaction() as books:
    books.principals.put(PrincipalRecord(state.object_id, "ServicePrincipal", app_id=state.client_id))
    books.principals.put(PrincipalRecord("u", "User", user_name="alice"))
    books.principals.put(PrincipalRecord("a", "ServicePrincipal", app_id="app"))
    for name, secret in (("u", "correct horse"), ("a", "battery staple")):
        books.credentials.put(CredentialRecord(name, name, digest_of(secret), "", time.time()))
directory, devices, throttle = Directory(state, store, Hasher()), Devices(store), Throttle()
tokens = Tokens(state, directory, Resources(["localhost"]), devices, Refreshing(store), throttle)
app = Edge(Authority(state, tokens, Approving(directory, devices, throttle), None), Troubles(), Requests())
linux.renounce(uid or None)
touched = []
sys.addaudithook(lambda event, args: event in ("open", "import") and touched.append(f"{event} {args[0]}"))

async def ask(method, path, **fields):
    body, sent = urlencode(fields).encode(), []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/x-www-form-urlencoded")]
    headers += [(b"content-length", str(len(body)).encode()), (b"accept", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": headers, "scheme": "https", "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 2)}
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}
    async def send(message):
        sent.append(message)
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"]) if path != "/device" or method == "POST" else None

async def work():
    tenant = f"/{state.tenant}"
    token = f"{tenant}/oauth2/v2.0/token"
    scope = "https://dynamicsessions.io/.default openid profile offline_access"
    secret = {"grant_type": "client_credentials", "scope": scope.split()[0]}
    statuses = [
        (await ask("GET", f"{tenant}/v2.0/.well-known/openid-configuration"))[0],
        (await ask("GET", f"{tenant}/discovery/v2.0/keys"))[0],
        (await ask("GET", "/device"))[0],
        (await ask("POST", token, client_id=state.client_id, client_secret=state.client_secret, **secret))[0],
        (await ask("POST", token, client_id="app", client_secret="battery staple", **secret))[0],
        (await ask("POST", token, client_id="app", client_secret="wrong", **secret))[0],
    ]
    _, begun = await ask("POST", f"{tenant}/oauth2/v2.0/devicecode", client_id=AZURE_CLI, scope=scope)
    device = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": AZURE_CLI}
    device["device_code"] = begun["device_code"]
    statuses.append((await ask("POST", token, **device))[0])
    person = {"user_code": begun["user_code"], "user_name": "alice", "password": "correct horse", "answer": "approve"}
    statuses.append((await ask("POST", "/device", **person))[0])
    status, fields = await ask("POST", token, **device)
    statuses.append(status)
    refresh = {"grant_type": "refresh_token", "client_id": AZURE_CLI, "refresh_token": fields["refresh_token"]}
    statuses.append((await ask("POST", token, **refresh))[0])
    return statuses

statuses = asyncio.run(work())
print(json.dumps({"statuses": statuses, "touched": touched}))
"""


def test_every_grant_is_served_without_rights(tmp_path: Path) -> None:
    """Client credentials right and wrong, a device code from begin to refresh."""
    tmp_path.chmod(0o700)
    uid = str(NOBODY if os.geteuid() == 0 else 0)
    command = [sys.executable, "-P", "-c", WORKER, str(tmp_path / "state"), uid]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert found["statuses"] == [200, 200, 200, 200, 200, 401, 400, 200, 200, 200]
    assert found["touched"] == []
