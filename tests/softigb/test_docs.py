"""The examples in docs/ do what they say."""

from __future__ import annotations

import re
import threading
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_device_is_served_and_driven(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "vfio-user.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    path = str(tmp_path / "adder.sock")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace("adder.sock", path), "vfio-user.md", "exec"), names)
    loop, drive = names["loop"], names["drive"]
    thread = threading.Thread(target=loop.run)  # type: ignore[attr-defined]
    thread.start()
    try:
        assert drive(path) == 42  # type: ignore[operator]
    finally:
        loop.stop()  # type: ignore[attr-defined]
        thread.join(10)
        names["server"].close()  # type: ignore[attr-defined]
        loop.close()  # type: ignore[attr-defined]


def test_links_between_documents_lead_somewhere() -> None:
    for document in [DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
