"""The HTTP server that tests download from and upload to."""

import hashlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from igb_vm.webserver import serve


@pytest.fixture
def url() -> Iterator[str]:
    server = serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_downloads_have_their_length_and_are_the_same_each_time(url: str) -> None:
    once, again = (urllib.request.urlopen(f"{url}/bytes/200001").read() for _ in range(2))
    assert len(once) == 200_001
    assert once == again
    assert urllib.request.urlopen(f"{url}/bytes/70000").read() == once[:70_000]
    assert len(set(once[:4096])) == 256  # no run of zeros: a lost piece would show


def test_uploads_are_answered_with_their_hash(url: str) -> None:
    data = bytes(range(256)) * 1000
    request = urllib.request.Request(f"{url}/any", data, method="PUT")
    assert urllib.request.urlopen(request).read().decode().strip() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("path", ["/etc/passwd", "/bytes/-1", "/bytes/99999999999999999999", "/bytes/x"])
def test_nothing_else_is_there(url: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(url + path)
    assert error.value.code == 404
    error.value.close()


def test_a_client_that_leaves_disturbs_nobody(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /bytes/100000000 HTTP/1.1\r\n\r\n")
        client.recv(10)
    assert urllib.request.urlopen(url).read() == b"igb_vm\n"
    assert "Traceback" not in capfd.readouterr().err
