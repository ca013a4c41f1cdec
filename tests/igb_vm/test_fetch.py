"""The private apt root, with the real apt, on a small signed archive on loopback that breaks off when told to."""

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from igb_vm import fetch
from igb_vm.errors import VmError
from igb_vm.fetch import AptRoot
from igb_vm.loader import Program
from igb_vm.packages import ensure

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("apt-get", "dpkg-deb"))), reason="needs Debian's apt-get and dpkg-deb"
)

PAYLOAD = hashlib.shake_128(b"payload").digest(300_000)


class Keys:
    """A key to sign with, by the Stateless OpenPGP program, which needs no agent and no home."""

    def __init__(self, folder: Path, sqop: Program) -> None:
        self._sqop = sqop
        self._secret = folder / "secret"
        self.keyring = folder / "keyring.gpg"
        self._run(self._secret, "generate-key", "test <test@invalid>")
        self._run(self.keyring, "extract-cert", "--no-armor", given=self._secret)

    def sign(self, plain: Path, signed: Path) -> None:
        """`plain` with its signature in the text, as InRelease files are."""
        self._run(signed, "inline-sign", "--as=clearsigned", str(self._secret), given=plain)

    def _run(self, result: Path, *arguments: str, given: Path = Path("/dev/null")) -> None:
        with given.open("rb") as stdin, result.open("wb") as stdout:
            self._sqop.run(*arguments, stdin=stdin, stdout=stdout, capture_output=False, check=True)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], Program]) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"), tool("sqop"))


def add_package(archive: Path, name: str, depends: str = "", version: str = "1.0") -> str:
    """Build a package that holds usr/share/NAME; its stanza for the Packages file."""
    tree = archive / "build" / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share" / name).write_bytes(PAYLOAD)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody <n@invalid>\n"
    control += f"Depends: {depends}\n" if depends else ""
    control += "Description: a test\n"
    (tree / "DEBIAN/control").write_text(control)
    path = archive / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, path], check=True, capture_output=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return control + f"Filename: {path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n\n"


def sign_suite(archive: Path, keys: Keys, suite: str, packages: str) -> None:
    folder = archive / "dists" / suite
    (folder / "main/binary-amd64").mkdir(parents=True, exist_ok=True)
    (folder / "main/binary-amd64/Packages").write_text(packages)
    release = (
        f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        f" {hashlib.sha256(packages.encode()).hexdigest()} {len(packages.encode())} main/binary-amd64/Packages\n"
    )
    (folder / "Release").write_text(release)
    keys.sign(folder / "Release", folder / "InRelease")


class Server(ThreadingHTTPServer):
    """Serves an archive. `break_after` cuts .deb files off after so many bytes; `asked` is what was asked for."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.break_after: int | None = None
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go are no news."""


class Handler(SimpleHTTPRequestHandler):
    """Files, with ranges (from an offset to the end), as apt asks for them when it resumes."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        path = self.server.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.server.break_after is not None and path.suffix == ".deb":
            self.wfile.write(data[start : start + self.server.break_after])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path, keys: Keys, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The archive: `app` depends on `lib`; backports have a newer `app`."""
    archive = tmp_path / "archive"
    lib, app = add_package(archive, "lib"), add_package(archive, "app", "lib, debconf (>= 0.5)")
    sign_suite(archive, keys, "trixie", lib + app)
    shutil.rmtree(archive / "build")
    newer = add_package(archive, "newer", "lib")
    sign_suite(archive, keys, "trixie-backports", newer)
    monkeypatch.setattr(fetch, "_keyring", lambda: keys.keyring)
    with Server(archive) as running:
        monkeypatch.setenv("SOFTIGB_MIRROR", running.url)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_package_comes_with_what_it_depends_on(server: Server) -> None:
    tree = ensure(["app"])
    assert (tree.root / "usr/share/app").read_bytes() == PAYLOAD
    assert (tree.root / "usr/share/lib").read_bytes() == PAYLOAD
    assert tree.versions == {"app": "1.0", "lib": "1.0"}


def test_the_second_time_needs_no_network(server: Server) -> None:
    first = ensure(["app"])
    server.asked.clear()
    assert ensure(["app"]) == first
    assert server.asked == []


def test_a_broken_download_goes_on_where_it_stopped(server: Server) -> None:
    server.break_after = 50_000
    with pytest.raises(VmError) as error:
        ensure(["lib"])
    assert "\n" not in str(error.value)
    assert not list((fetch.cache_dir() / "trees").glob("*"))
    server.break_after = None
    server.asked.clear()
    tree = ensure(["lib"])
    assert (tree.root / "usr/share/lib").read_bytes() == PAYLOAD
    (ranges,) = [range_ for path, range_ in server.asked if path == "/lib.deb"]
    assert int(ranges.removeprefix("bytes=").rstrip("-")) >= 50_000


def test_a_package_that_was_replaced_is_found_in_new_lists(server: Server, keys: Keys) -> None:
    ensure(["lib"])
    (server.root / "app.deb").unlink()
    shutil.rmtree(server.root / "build")
    sign_suite(server.root, keys, "trixie", add_package(server.root, "app", version="2.0"))
    assert ensure(["app"]).versions == {"app": "2.0"}


def test_a_changed_package_is_refused(server: Server) -> None:
    path = server.root / "lib.deb"
    data = bytearray(path.read_bytes())
    data[-20_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(VmError, match="Hash Sum mismatch"):
        ensure(["lib"])


def test_lists_that_another_key_signed_are_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.gpg").write_bytes(b"")
    monkeypatch.setattr(fetch, "_keyring", lambda: tmp_path / "empty.gpg")
    with pytest.raises(VmError):
        ensure(["lib"])
    assert not any(path.endswith(".deb") for path, _ in server.asked)


def test_an_unknown_package_is_one_line(server: Server) -> None:
    with pytest.raises(VmError, match="Unable to locate package nosuch") as error:
        ensure(["nosuch"])
    assert "\n" not in str(error.value)


def test_a_mirror_that_is_not_there_is_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTIGB_MIRROR", "http://127.0.0.1:1/debian")
    with pytest.raises(VmError) as error:
        ensure(["lib"])
    assert "\n" not in str(error.value)


def test_the_system_stays_as_it_is(server: Server) -> None:
    def times() -> dict[str, float]:
        paths = ["/var/lib/apt/lists", "/var/lib/dpkg/status", "/var/cache/apt", "/var/cache/apt/archives", "/etc/apt"]
        return {path: os.stat(path).st_mtime for path in paths if os.path.exists(path)}

    before = times()
    ensure(["app"])
    assert times() == before


def test_backports_only_when_asked(server: Server) -> None:
    apt = AptRoot()
    assert [path.name for path in apt.download(["newer"], "trixie-backports")] == [
        "lib_1.0_amd64.deb",
        "newer_1.0_amd64.deb",
    ]
    assert apt.has("newer")
    assert not apt.has("newe")
