"""Starting the studio: project, port, address, browser, server."""

import errno
import logging
import socket
import sys
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from selfseg.apps.studio.project import kept_token, open_project
from selfseg.apps.studio.runs import start_first_look
from selfseg.core.errors import UsageError

LOOPBACK_HOST = "127.0.0.1"
PACKAGES = ("fastapi", "uvicorn", "websockets")
FIRST_PORT, LAST_PORT = 8770, 8799


def launch(
    inputs: Sequence[str],
    *,
    project: Path | None = None,
    port: int | None = None,
    host: str = LOOPBACK_HOST,
    allow: Sequence[Path] = (),
    axes: str | None = None,
    browser: bool = True,
) -> int:
    """Serve the studio until it is interrupted; return the exit code. The arguments are those of `selfseg studio`.

    UsageError if the extra is not installed or the port is taken.
    """
    _check_packages()
    opened = open_project(inputs, project, allow, axes)
    listener = _listen(host, port)
    start_first_look(opened)
    import uvicorn

    from selfseg.apps.studio.security import Access, hosts_of
    from selfseg.apps.studio.server import make_app
    from selfseg.apps.studio.studio import Studio

    studio = Studio(opened)
    taken = listener.getsockname()[1]
    access = Access(taken, hosts_of(host), kept_token(opened.folder))
    shown = f"[{host}]" if ":" in host else LOOPBACK_HOST if host in ("0.0.0.0", "") else host
    url = f"http://{shown}:{taken}/?token={access.token}"
    _announce(url, opened.folder, host)
    for note in opened.notes:
        sys.stdout.write(f"{note}\n")
    if browser:
        webbrowser.open(url)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        make_app(studio, access), log_level="warning", access_log=False, ws_max_size=2**22, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            "studio", expected="its packages", got=f"no {', '.join(missing)}", fix="pip install 'selfseg[studio]'"
        )


def _announce(url: str, folder: Path, host: str) -> None:
    say = sys.stdout.write
    say(f"selfseg studio: {url}\n")
    say(f"project: {folder} (everything is kept there; Ctrl-C ends the studio, runs continue)\n")
    if host not in (LOOPBACK_HOST, "localhost", "::1"):
        sys.stderr.write(
            f"selfseg: warning: bound to {host}: other machines can reach the studio, and whoever has the address above can "
            "see the pictures and start runs; the connection is not encrypted, so prefer an SSH tunnel\n"
        )
    sys.stdout.flush()


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted = [port] if port is not None else [*range(FIRST_PORT, LAST_PORT + 1), 0]
    for number in wanted:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host.strip("[]"), number))
            listener.listen()  # at once, so that a browser that comes before the server is ready waits for it
            return listener
        except (OSError, OverflowError) as error:
            listener.close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port is None:
                continue
            raise UsageError(
                f"{host}:{number}", expected="a free address", got=str(error), fix="choose another --port or --host"
            ) from error
    raise UsageError(host, expected="a free port", got="none", fix="choose one with --port")
