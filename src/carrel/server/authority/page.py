"""The page `/device`, as HTML: a code, then who asks, user name, password, yes or no. No script, nothing from elsewhere.

It needs no token against forged posts: nothing of the browser's (no cookie, no certificate) goes with one, so a forger would have to know
the password. Posts from other sites are refused all the same, and no site may frame the page, lest a person be led to answer unawares.
"""

from __future__ import annotations

import base64
import hashlib
import html
import time

from carrel.server.authority.devices import Asked
from carrel.server.exchange import Headers

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}"
    "label{display:block;margin:1rem 0 .25rem}input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box}"
    "button{font:inherit;padding:.5rem 1.5rem;margin:1.5rem .5rem 0 0}"
    "p.wrong{border-left:4px solid #b00020;padding-left:.75rem}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#1b1b1b}p.wrong{border-color:#ff6b7d}}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_TYPE = (b"content-type", b"text/html; charset=utf-8")
HEADERS: Headers = [
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'".encode(),
    ),
    (b"x-frame-options", b"DENY"),
    # Not "no-referrer": with that, browsers send `Origin: null` with the page's own form (Fetch, "append a request Origin header").
    (b"referrer-policy", b"same-origin"),
]


def ask_code(wrong: str = "", user_code: str = "") -> str:
    return _page(
        "Sign in on another device",
        wrong,
        f"""<form method="post" action="/device">
<label for="code">Code that the device shows</label>
<input id="code" name="user_code" required autofocus autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="20"
 value="{_text(user_code)}">
<button>Next</button>
</form>""",
    )


def ask_person(user_code: str, client: str, asked: Asked, now: float, wrong: str = "", user_name: str = "") -> str:
    minutes = int((now - asked.at) // 60)
    ago = "less than a minute ago" if minutes == 0 else f"{minutes} min ago"
    return _page(
        f"Let {client} sign in?",
        wrong,
        f"""<p><strong>{_text(client)}</strong> asked {ago} ({time.strftime("%H:%M:%S UTC", time.gmtime(asked.at))}), from
{_text(_place(asked.peer))}, to act in your name. Approve only what you have started yourself: whoever sent you a code could act as you.</p>
<form method="post" action="/device">
<input type="hidden" name="user_code" value="{_text(user_code)}">
<label for="name">User name</label>
<input id="name" name="user_name" required autofocus autocomplete="username" spellcheck="false" maxlength="256" value="{_text(user_name)}">
<label for="password">Password</label>
<input id="password" name="password" type="password" required autocomplete="current-password" maxlength="1024">
<button name="answer" value="approve">Approve</button>
<button name="answer" value="deny">Deny</button>
</form>""",
    )


def settled(client: str, *, is_approved: bool) -> str:
    if is_approved:
        return _page("Signed in", "", f"<p>{_text(client)} is signed in. You can close this page.</p>")
    return _page("Denied", "", f"<p>{_text(client)} was told no. You can close this page.</p>")


def _page(title: str, wrong: str, body: str) -> str:
    trouble = f'<p class="wrong" role="alert">{_text(wrong)}</p>\n' if wrong else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{_text(title)} · Carrel</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
{trouble}{body}
</main>
</body>
</html>
"""


def _place(peer: str) -> str:
    """A peer of throttle.py's in words."""
    kind, _, user = peer.partition(" ")
    return f"this server's own machine (user {user})" if kind == "uid" else peer


def _text(value: str) -> str:
    return html.escape(value, quote=True)
