"""Which mirror apt's configuration names: samples of both formats, of Debian, Ubuntu and others."""

from pathlib import Path

import pytest

from igb_vm.errors import VmError
from igb_vm.mirror import find_mirror, parse_deb822, parse_one_line, read_sources

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://sec.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive.gpg] http://one.example/debian bookworm main contrib # why
"""
DEB822 = """\
# A comment
Types: deb
URIs: http://sec.example/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://two.example/debian
  http://three.example/debian
Suites: trixie trixie-updates
# in the middle
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
UBUNTU = """\
Types: deb
URIs: http://ubuntu.example/ubuntu
Suites: noble noble-updates
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
THIRD_PARTY = "deb [signed-by=/etc/apt/keyrings/x.asc] https://vendor.example/debian bookworm stable\n"


def etc_apt(tmp_path: Path, **files: str) -> Path:
    """An /etc/apt; `files` by name, with __ for a dot and a leading d_ for sources.list.d."""
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        folder = tmp_path / "sources.list.d" if name.startswith("d_") else tmp_path
        (folder / name.removeprefix("d_").replace("__", ".")).write_text(text)
    return tmp_path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOFTIGB_MIRROR", raising=False)


def test_one_line_format(tmp_path: Path) -> None:
    assert find_mirror(etc_apt=etc_apt(tmp_path, sources__list=ONE_LINE)) == "http://one.example/debian"
    (security, archive) = parse_one_line(ONE_LINE)
    assert security.suites == ("bookworm-security",)
    assert archive.components == ("main", "contrib")
    assert archive.signed_by == "/usr/share/keyrings/debian-archive.gpg"


def test_deb822_format(tmp_path: Path) -> None:
    assert find_mirror(etc_apt=etc_apt(tmp_path, d_debian__sources=DEB822)) == "http://two.example/debian"
    (_, archive) = parse_deb822(DEB822)
    assert archive.uris == ("http://two.example/debian", "http://three.example/debian")
    assert archive.suites == ("trixie", "trixie-updates")


def test_a_disabled_stanza_does_not_count(tmp_path: Path) -> None:
    text = DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb deb-src")
    with pytest.raises(VmError):
        find_mirror(etc_apt=etc_apt(tmp_path, d_debian__sources=text))


def test_ubuntu_names_no_debian_mirror(tmp_path: Path) -> None:
    with pytest.raises(VmError, match="--mirror") as error:
        find_mirror(etc_apt=etc_apt(tmp_path, d_ubuntu__sources=UBUNTU))
    assert "\n" not in str(error.value)


def test_a_vendors_archive_is_not_debians(tmp_path: Path) -> None:
    with pytest.raises(VmError):
        find_mirror(etc_apt=etc_apt(tmp_path, d_vendor__list=THIRD_PARTY, d_ubuntu__sources=UBUNTU))


def test_what_debians_keyring_signs_goes_first(tmp_path: Path) -> None:
    derivative = "deb http://derivative.example/repo bookworm main\n"
    place = etc_apt(tmp_path, sources__list=derivative, d_z__sources=DEB822)
    assert find_mirror(etc_apt=place) == "http://two.example/debian"


def test_a_cdrom_is_no_mirror(tmp_path: Path) -> None:
    place = etc_apt(tmp_path, sources__list="deb cdrom:[Debian_12]/ bookworm main\n" + ONE_LINE)
    assert find_mirror(etc_apt=place) == "http://one.example/debian"


def test_mirror_lists_of_cloud_images_are_passed_on(tmp_path: Path) -> None:
    text = DEB822.replace("http://two.example/debian", "mirror+file:///etc/apt/mirrors/debian.list")
    place = etc_apt(tmp_path, d_debian__sources=text)
    assert find_mirror(etc_apt=place) == "mirror+file:///etc/apt/mirrors/debian.list"


def test_what_is_asked_for_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = etc_apt(tmp_path, sources__list=ONE_LINE)
    monkeypatch.setenv("SOFTIGB_MIRROR", "http://environment.example/debian")
    assert find_mirror(etc_apt=place) == "http://environment.example/debian"
    assert find_mirror("https://option.example/debian", place) == "https://option.example/debian"


@pytest.mark.parametrize(
    "bad", ["example.org", "http://", "http://a b/debian", "http://a/debian\nTrusted: yes", "/srv/debian"]
)
def test_nonsense_is_refused(bad: str) -> None:
    with pytest.raises(VmError, match="address"):
        find_mirror(bad)


def test_unreadable_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    place = etc_apt(tmp_path, sources__list=ONE_LINE, d_old__list__save=THIRD_PARTY)
    (place / "sources.list.d" / "folder.list").mkdir()
    (place / "sources.list.d" / "binary.sources").write_bytes(bytes(range(256)))
    assert len(read_sources(place)) == 2
