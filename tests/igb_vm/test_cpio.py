"""The cpio writer, against a reader written from the kernel's description of the newc format, and against busybox."""

import io
import stat
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_vm.errors import VmError
from igb_vm.initramfs import Cpio


class Entry(NamedTuple):
    mode: int
    data: bytes
    rdev: tuple[int, int]


def read_newc(archive: bytes) -> dict[str, Entry]:
    """The kernel's buffer-format.rst: magic, 13 fields of 8 hex digits, name, data; both padded to 4."""
    stream = io.BytesIO(archive)
    entries: dict[str, Entry] = {}
    while True:
        assert stream.tell() % 4 == 0
        magic, *fields = struct.unpack("6s" + "8s" * 13, stream.read(110))
        assert magic == b"070701"
        ino, mode, uid, gid, nlink, _, size, _, _, rmajor, rminor, namesize, check = (
            int(field, 16) for field in fields
        )
        name = stream.read(namesize)
        assert name[-1:] == b"\0"
        stream.seek(-stream.tell() % 4, io.SEEK_CUR)
        data = stream.read(size)
        assert len(data) == size
        stream.seek(-stream.tell() % 4, io.SEEK_CUR)
        if name == b"TRAILER!!!\0":
            assert not any(archive[stream.tell() :])
            return entries
        assert (uid, gid, check) == (0, 0, 0)
        assert ino
        assert nlink
        entries[name[:-1].decode()] = Entry(mode, data, (rmajor, rminor))


def test_every_kind_of_entry() -> None:
    archive = Cpio()
    archive.file("/etc/deep/er/file", b"hello", 0o600)
    archive.symlink("/bin/sh", "busybox")
    archive.device("dev/console", 5, 1)
    archive.folder("/proc")
    entries = read_newc(archive.finish())
    assert list(entries) == [
        "etc",
        "etc/deep",
        "etc/deep/er",
        "etc/deep/er/file",
        "bin",
        "bin/sh",
        "dev",
        "dev/console",
        "proc",
    ]
    assert entries["etc/deep/er/file"] == Entry(stat.S_IFREG | 0o600, b"hello", (0, 0))
    assert entries["bin/sh"] == Entry(stat.S_IFLNK | 0o777, b"busybox", (0, 0))
    assert entries["dev/console"] == Entry(stat.S_IFCHR | 0o600, b"", (5, 1))
    assert stat.S_ISDIR(entries["proc"].mode)


@given(st.dictionaries(st.text("abcdef.-é", min_size=1, max_size=12), st.binary(max_size=40), max_size=8))
def test_any_names_and_contents_come_back(files: dict[str, bytes]) -> None:
    archive = Cpio()
    for name, data in files.items():
        archive.file(f"d/{name}", data)
    entries = read_newc(archive.finish())
    assert {name.removeprefix("d/"): entry.data for name, entry in entries.items() if name != "d"} == files


def test_the_same_file_twice_is_refused() -> None:
    archive = Cpio()
    archive.file("a", b"1")
    with pytest.raises(VmError, match="twice"):
        archive.file("/a", b"2")


def test_a_symlink_gives_way_to_what_is_there() -> None:
    archive = Cpio()
    archive.file("bin/ip", b"real")
    archive.symlink("bin/ip", "busybox")
    assert read_newc(archive.finish())["bin/ip"].data == b"real"


@pytest.mark.qemu
def test_busybox_unpacks_it(tmp_path: Path) -> None:
    from igb_vm.initramfs import PACKAGES
    from igb_vm.packages import ensure

    archive = Cpio()
    archive.file("a/b", bytes(range(256)), 0o750)
    archive.symlink("a/c", "b")
    (tmp_path / "t.cpio").write_bytes(archive.finish())
    busybox = ensure(PACKAGES).program("busybox")
    run = busybox.run("cpio", "-idF", tmp_path / "t.cpio", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "a/c").readlink() == Path("b")
    assert (tmp_path / "a/c").read_bytes() == bytes(range(256))
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o750
