"""`/console/output`: the page in which the console draws a session's HTML and SVG (src/carrel/console/output.html).

What the code of a session displays is hostile. It is drawn in a frame with an origin of nobody's (`sandbox`, here and on the frame), so
that it reaches neither the console's page nor its storage and tokens, and in which no script runs but the page's own, which is named by
its hash. Nothing is fetched from anywhere: a session without network must not get one by way of whoever looks at it. That is why
outputs' scripts do not run at all: a script finds ways out that no policy names (WebRTC, `preconnect`). The console's own policy
(`frame-src 'self'`) keeps the frame from being led elsewhere.
"""

from __future__ import annotations

import base64
import hashlib

from carrel.server.exchange import Headers

PATH = "/console/output"
FILE = "output.html"
_BEGINNING, _END = b"<script>", b"</script>"


def headers(page: bytes) -> Headers:
    """Of this page, in which there is one script."""
    beginning, end = page.index(_BEGINNING) + len(_BEGINNING), page.index(_END)
    if page.count(b"<script") != 1:
        raise ValueError(f"{FILE} must have one script, which its policy names")
    return [
        (b"content-security-policy", _policy(page[beginning:end]).encode()),
        (b"cross-origin-resource-policy", b"same-origin"),
        (
            b"permissions-policy",
            b"camera=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-write=(), fullscreen=()",
        ),
        (b"referrer-policy", b"no-referrer"),
        (b"x-dns-prefetch-control", b"off"),
    ]


def _policy(script: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return (
        f"sandbox allow-scripts; default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "font-src data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )
