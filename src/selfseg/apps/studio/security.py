"""Access to the studio: token, host and origin of a request, and folders into which its paths may lead."""

import contextlib
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfseg.core.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every answer: nothing is loaded from elsewhere, framed elsewhere, or kept."""


@dataclass(frozen=True)
class Access:
    """Conditions that a request must meet."""

    port: int
    """Port of the server, part of the name of its cookie: cookies are shared between the ports of a host."""
    hosts: frozenset[str] = frozenset(LOOPBACK)
    """Names by which the server may be called (against DNS rebinding)."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """The secret of this start."""

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token once the page was opened."""
        return f"selfseg_{self.port}"

    def knows_host(self, host: str | None) -> bool:
        """Return whether a Host header, or the host of an Origin, is this server."""
        try:
            parts = urlsplit(f"//{host or ''}")
            return parts.hostname in self.hosts and (parts.port or 80) == self.port
        except ValueError:
            return False

    def knows_origin(self, origin: str | None) -> bool:
        """Return whether a request came from this server's own page, or from no page at all."""
        if origin is None:
            return True
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and self.knows_host(host)

    def knows_token(self, given: str | None) -> bool:
        """Return whether this is the token; takes the same time for any other."""
        return given is not None and secrets.compare_digest(given.encode(), self.token.encode())


def hosts_of(host: str) -> frozenset[str]:
    """Return the names by which a server bound to `host` may be called."""
    names = {*LOOPBACK, host.strip("[]").lower()}
    if host in ("0.0.0.0", "::", ""):
        own = socket.gethostname().lower()
        names |= {own, socket.getfqdn().lower()}
        with contextlib.suppress(OSError):
            names |= {str(entry[4][0]).lower() for entry in socket.getaddrinfo(own, None)}
    return frozenset(names)


class Guard:
    """ASGI middleware that refuses other hosts, other origins and missing tokens, for pages and websockets alike.

    The page is first opened as ``/?token=...``; the token then moves into a cookie that scripts cannot read and that other
    sites cannot send, and disappears from the address. Programs may send ``Authorization: Bearer TOKEN``.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        answer = self._refusal(HTTPConnection(scope))
        if answer is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": "refused"})
        else:
            await answer(scope, receive, _with_headers(send))

    def _refusal(self, request: HTTPConnection) -> Response | None:
        access, headers, websocket = self.access, request.headers, request.scope["type"] == "websocket"
        if not access.knows_host(headers.get("host")):
            return PlainTextResponse("The studio answers under its own address only.", 421)
        origin = headers.get("origin")
        # A websocket is not subject to the same-origin policy: there the browser must name its page.
        if not access.knows_origin(origin) or (websocket and "cookie" in headers and origin is None):
            return PlainTextResponse("The studio answers its own pages only.", 403)
        if not websocket and request.scope["path"] == "/" and access.knows_token(request.query_params.get("token")):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(access.cookie, access.token, httponly=True, samesite="strict", path="/")
            return answer
        kind, _, token = headers.get("authorization", "").partition(" ")
        bearer = token if kind.lower() == "bearer" else None
        if access.knows_token(request.cookies.get(access.cookie)) or access.knows_token(bearer):
            return None
        return PlainTextResponse("Open the studio by the address that it printed when it started.", 401)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for key, value in HEADERS.items():
                headers.setdefault(key, value)
        await send(message)

    return sending


def confine(path: str | Path, roots: Iterable[Path]) -> Path:
    """Return the path, resolved, if it lies in one of these folders; InputError if it leads elsewhere, also by ``..`` or a link."""
    known: Sequence[Path] = [root.resolve() for root in roots]
    try:
        resolved = Path(path).expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(repr(str(path))[:200], expected="a path", got=str(error), fix="check the name") from error
    if any(resolved == root or root in resolved.parents for root in known):
        return resolved
    raise InputError(
        path,
        expected="a path inside " + " or ".join(str(root) for root in known),
        got="another place",
        fix="start the studio with that folder, or with --allow",
    )
