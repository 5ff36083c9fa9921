"""Who is let in: token, host, origin; and where paths lead."""

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from selfseg.apps.studio.security import Access, confine, hosts_of
from selfseg.apps.studio.server import STATIC, make_app
from selfseg.apps.studio.studio import Studio
from selfseg.core.errors import InputError

HOME = "http://127.0.0.1:8123"
SOCKET = "ws://127.0.0.1:8123/ws"


@pytest.fixture
def client(project):
    access = Access(8123, token="the-token")
    return TestClient(make_app(Studio(project), access), base_url=HOME, follow_redirects=False)


def bearer(token="the-token"):
    return {"Authorization": f"Bearer {token}"}


def test_without_the_token_nothing_is_answered(client):
    for path in ("/", "/static/js/main.js", "/api/schema", "/tiles/image", "/nothing"):
        assert client.get(path).status_code == 401
    assert client.get("/", headers=bearer("the-tokem")).status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.post("/api/upload?name=a.png", content=b"x").status_code == 401


def test_the_token_moves_from_the_address_into_a_cookie_that_scripts_cannot_read(client):
    answer = client.get("/?token=the-token")
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "selfseg_8123=the-token" in cookie and "httponly" in cookie and "samesite=strict" in cookie
    page = client.get("/")
    assert page.status_code == 200 and "<studio-panes" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy
    assert page.headers["referrer-policy"] == "no-referrer" and page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:9999", "127.0.0.1.evil.example:8123", "", "[::1"])
def test_other_hosts_are_refused(client, host):
    assert client.get("/api/schema", headers={**bearer(), "host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8123", "localhost:8123", "[::1]:8123"])
def test_own_names_are_answered(client, host):
    assert client.get("/api/schema", headers={**bearer(), "host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://", "http://localhost"]
)
def test_other_origins_are_refused(client, origin):
    assert client.get("/api/schema", headers={**bearer(), "origin": origin}).status_code == 403
    assert client.get("/api/schema", headers={**bearer(), "origin": HOME}).status_code == 200


def test_websockets_need_token_and_origin(client):
    refused = [
        {},
        {**bearer("no"), "origin": HOME},
        {**bearer(), "origin": "http://evil.example"},
        {"cookie": "selfseg_8123=the-token"},  # a browser that does not say whose page asks
        {"cookie": "selfseg_9999=the-token", "origin": HOME},
    ]
    for headers in refused:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers=headers) as socket:
            socket.receive_text()
    with (
        client,
        client.websocket_connect(SOCKET, headers={"cookie": "selfseg_8123=the-token", "origin": HOME}) as socket,
    ):
        assert socket.receive_json()["type"] == "project"


def test_static_files_lead_nowhere_else(client):
    assert client.get("/static/js/main.js", headers=bearer()).headers["content-type"].startswith("text/javascript")
    for path in (
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2f..%2f..%2f..%2fetc/passwd",
        "/static//etc/passwd",
    ):
        answer = client.get(path, headers=bearer())
        assert answer.status_code in (400, 404) and "import" not in answer.text and "root:" not in answer.text
    for path in ("../../project.json", "/etc", "run-001/../../..", "."):
        assert client.get("/api/export.zip", params={"folder": path}, headers=bearer()).status_code == 400


def test_the_page_asks_nothing_of_other_machines():
    for path in [*STATIC.rglob("*.js"), *STATIC.rglob("*.css"), *STATIC.rglob("*.html")]:
        if "vendor" in path.parts:
            continue
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, path


def test_paths_are_confined(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    assert confine(inside / "deep", [inside]) == (inside / "deep").resolve()
    assert confine(inside, [outside, inside]) == inside.resolve()
    for path in (outside, inside / ".." / "out", inside / "link", inside / "link" / "x", "/", f"{inside}x", "a\0b"):
        with pytest.raises(InputError):
            confine(path, [inside])


def test_names_of_hosts():
    assert "192.168.1.5" in hosts_of("192.168.1.5") and "evil.example" not in hosts_of("0.0.0.0")
    assert Access(80, frozenset({"::1"})).knows_host("[::1]") and not Access(80).knows_host("127.0.0.1:81")
    assert len(Access(1).token) >= 32 and Access(1).token != Access(1).token


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../../evil.png", None),
        ("a.exe", b"x"),
        ("a.png", b"not a picture"),
        (".hidden.png", b"x"),
        ("bomb.png", "bomb"),
    ],
)
def test_uploads_are_checked(client, project, name, content):
    import struct
    import zlib

    from PIL import Image as Pillow

    if content == "bomb":  # a header that declares 60000 x 60000 pixels over a few bytes
        head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        data = b"IDAT" + zlib.compress(b"\0" * 100)
        chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data, b"IEND")]
        content = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    if content is None:
        import io

        buffer = io.BytesIO()
        Pillow.new("RGB", (8, 8)).save(buffer, "PNG")
        answer = client.post("/api/upload", params={"name": name}, content=buffer.getvalue(), headers=bearer())
        assert answer.status_code == 200 and (project.uploads / "evil.png").is_file()
        assert not (project.folder.parent / "evil.png").exists()
        return
    answer = client.post("/api/upload", params={"name": name}, content=content, headers=bearer())
    assert answer.status_code == 400 and "expected" in answer.json()["error"]
    assert not project.uploads.exists() or not any(project.uploads.iterdir())


def test_an_upload_that_says_that_it_is_too_large_is_refused_unread(client, project):
    headers = {**bearer(), "content-length": str(2**40)}
    assert client.post("/api/upload", params={"name": "a.png"}, content=b"x", headers=headers).status_code == 413
    assert not project.uploads.exists()
