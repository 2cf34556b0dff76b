"""What a recording does not show: secrets, and what is another at each run (ids, times, ports, measured figures)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

_GUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_HEX = re.compile(r"\b[0-9a-f]{16,64}\b")
_TIME = re.compile(r"\b20\d\d-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?(?=Z|\+00:00)")
_USER_CODE = re.compile(r"\b[A-Z]{4}-[A-Z]{4}\b")
_NAMES = "access_token refresh_token id_token client_info device_code user_code token secretText password hint key apiKey n kid x5t x5c"
_SECRETS = re.compile(rf'("(?:{_NAMES.replace(" ", "|")})": )"[^"]*"')
_FORM = re.compile(
    r"((?:^|&)(?:client_secret|device_code|refresh_token|user_code|password|token)=)[^&\s]*",
    re.IGNORECASE | re.MULTILINE,
)
_HEADERS = re.compile(r"^((?:x-ms-apikey|x-identity-header): ).*$", re.IGNORECASE | re.MULTILINE)
_FIGURES = re.compile(
    r'("(?:executionTimeInMilliseconds|wallMs|cpuMs|peakMemoryBytes|writtenBytes|cpuTimeMs|answeredInMs)": )\d+(?:\.\d+)?'
)
_SECONDS = re.compile(r'("(?:expires_on|not_before|notBefore|expiresOn|nbf|exp|iat|expires_in|ext_expires_in)": "?)\d+')
_SAMPLES = re.compile(r"^(carrel_\w+(?:\{.*\})? )[\d.e+-]+$", re.MULTILINE)  # of /metrics
_BOUNDARY = re.compile(r"(boundary=|^--)[0-9a-f]{32}", re.MULTILINE)
MANY, LONG = 2, 240


@dataclass
class Neutral:
    """The same id of a run is the same in all its recordings, numbered in the order of appearance. `kept` are ids that everybody has."""

    addresses: Mapping[str, str]
    kept: Collection[str]
    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, connection: Mapping[str, Any], kept: Collection[str]) -> Neutral:
        usual = {"http": "http://127.0.0.1:8080", "https": "https://localhost:8443"}
        return cls({str(connection[name]): address for name, address in usual.items() if connection[name]}, kept)

    def text(self, text: str) -> str:
        for address, usual in self.addresses.items():
            text = text.replace(address, usual).replace(address.partition("://")[2], usual.partition("://")[2])
        text = re.sub(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "eyJ0eXAiOiJKV1Qi…", text)
        text = _BOUNDARY.sub(r"\1boundary", text)
        for secret in (_SECRETS, _FORM, _HEADERS):
            text = secret.sub(lambda found: f'{found[1]}"…"' if found[0].endswith('"') else f"{found[1]}…", text)
        text = _FIGURES.sub(r"\g<1>12", text)
        text = _SAMPLES.sub(r"\g<1>1.0", text)
        text = _SECONDS.sub(r"\g<1>1767236645", text)
        text = _TIME.sub(lambda found: f"2026-01-01{found[1]}03:04:05" + (".1234567" if found[2] else ""), text)
        text = _USER_CODE.sub("…", text)
        text = _GUID.sub(self._guid, text)
        return _HEX.sub(self._hex, text)

    def _guid(self, found: re.Match[str]) -> str:
        if found[0] in self.kept:
            return found[0]
        return f"00000000-0000-4000-8000-{self._number(found[0]):012}"

    def _hex(self, found: re.Match[str]) -> str:
        is_ours = found[0].startswith("000000000000")
        return found[0] if is_ours or found[0].isdigit() else f"{self._number(found[0]):x}".rjust(len(found[0]), "0")

    def _number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers) + 1)


def shortened(value: Any) -> Any:
    """Long lists, texts and objects with where they were cut said in them."""
    if isinstance(value, dict):
        items = list(value.items())
        kept = {name: shortened(each) for name, each in items[: 12 * MANY]}
        return kept | ({"…": f"{len(items) - len(kept)} more"} if len(items) > len(kept) else {})
    if isinstance(value, list):
        rest = [f"… {len(value) - MANY} more"] if len(value) > MANY else []
        return [*(shortened(each) for each in value[:MANY]), *rest]
    if isinstance(value, str) and len(value) > LONG:
        return value[:LONG] + "…"
    return value
