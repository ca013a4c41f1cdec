"""Which Debian mirror this machine uses, read from apt's own configuration: sources.list(5), both formats.

No mirror is known to this project: the machine names it, or the user does (`mirror=`, $SOFTIGB_MIRROR).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from igb_vm.errors import VmError

# Names a Debian archive's suites have; Ubuntu's and other derivatives' are different ones.
_DEBIAN = {
    *("stretch", "buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
}
_NOT_THE_ARCHIVE = re.compile(r"-security\b|/updates$")


@dataclass(frozen=True)
class Source:
    """One line or stanza of apt's sources."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""  # path of a keyring, or a key itself; empty if not given


def parse_one_line(text: str) -> Iterator[Source]:
    """The sources in a file of the one-line format (`deb [options] uri suite component…`)."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>[^#]*)", line)
        if not match:
            continue
        words = match["rest"].split()
        if len(words) >= 2:
            signed = re.search(r"signed-by=(\S+)", match["options"] or "", re.IGNORECASE)
            yield Source((words[0],), (words[1],), tuple(words[2:]), signed[1] if signed else "")


def parse_deb822(text: str) -> Iterator[Source]:
    """The sources in a file of the deb822 format (stanzas of `Field: value`)."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", lines):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false"):
            yield Source(
                tuple(fields.get("uris", "").split()),
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                fields.get("signed-by", "").strip(),
            )


def read_sources(etc_apt: Path) -> list[Source]:
    """All sources below an /etc/apt; files that can't be read are passed over."""
    found: list[Source] = []
    folder = etc_apt / "sources.list.d"
    paths = [etc_apt / "sources.list", *(sorted(folder.iterdir()) if folder.is_dir() else [])]
    for path in paths:
        parse = {".list": parse_one_line, ".sources": parse_deb822}.get(path.suffix)
        if parse is None:
            continue
        try:
            found += parse(path.read_text(errors="replace"))
        except OSError:
            continue
    return found


def is_debian_archive(source: Source) -> bool:
    """Whether a source is the main Debian archive: a Debian suite's `main`, not the security archive."""
    suite = next(iter(source.suites), "")
    base = suite.split("-")[0].split("/")[0]
    security = any(_NOT_THE_ARCHIVE.search(name) for name in (*source.suites, *source.uris))
    return base in _DEBIAN and "main" in source.components and not security


def find_mirror(mirror: str | None = None, etc_apt: Path = Path("/etc/apt")) -> str:
    """The Debian mirror to use: the one given, $SOFTIGB_MIRROR, or the first that apt's sources name.

    Raises VmError where nothing names one.
    """
    for named in (mirror, os.environ.get("SOFTIGB_MIRROR")):
        if named:
            if not re.fullmatch(r"[a-z0-9+]+:/+[^\s/]\S*", named):
                raise VmError(f"{named!r} is no mirror's address: it should look like http://host/debian")
            return named
    sources = [source for source in read_sources(etc_apt) if is_debian_archive(source)]
    # A derivative may reuse Debian's suite names; a source signed by Debian's own keyring is certain.
    sources.sort(key=lambda source: "debian-archive" not in source.signed_by)
    for source in sources:
        for uri in source.uris:
            if not uri.startswith(("cdrom:", "file:", "copy:")):
                return uri
    raise VmError(
        "this machine's apt names no Debian mirror: give one with --mirror or SOFTIGB_MIRROR (http://host/debian)"
    )
