"""The card's Ethernet address: read from an option, or made from a name so that it stays the same."""

from __future__ import annotations

import hashlib
import os
import re

from softigb.errors import USAGE, CliError

_OURS = bytes.fromhex("525400")
"""What QEMU's own cards begin with: locally administered, unicast."""


def parse_mac(text: str) -> bytes:
    """Reads `52:54:00:12:34:56`, with - as well. Raises CliError for anything but a station's address."""
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text):
        raise CliError(f"{text!r} is no Ethernet address: it looks like 52:54:00:12:34:56", USAGE)
    mac = bytes.fromhex(re.sub("[:-]", "", text))
    if mac[0] & 1:
        raise CliError(f"{text} is a group's address: a card's has an even first byte", USAGE)
    if not any(mac):
        raise CliError(f"{text} is nobody's address", USAGE)
    return mac


def mac_for(name: str | os.PathLike[str]) -> bytes:
    """The address of the card at socket `name`: 52:54:00 and three bytes of the SHA-256 of its absolute path. So two
    cards on one machine differ, and a guest finds the one it knows after a restart."""
    return _OURS + hashlib.sha256(os.path.abspath(os.fspath(name)).encode(errors="surrogateescape")).digest()[:3]
