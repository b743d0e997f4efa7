"""One audit, watched: its layers are traced once, and its files are entered in the order that the docs say."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest
from torch import Tensor, nn

import salve_audit
from salve_audit.cli.app import run
from salve_audit.spatial import layers

pytestmark = pytest.mark.slow

PACKAGE = Path(salve_audit.__file__).parent
READING_ORDER = PACKAGE.parent / "docs" / "reading-order.md"
MOST_FILES = 40
OPTIMIZED = 1  # set in code of functions, not of modules and class bodies


@dataclass(frozen=True)
class WatchedAudit:
    """An audit that was run: audit.json, the image sizes of traces, and its files by first entry."""

    audit: dict
    sizes: list[tuple[int, ...]]
    entered: list[str]


@pytest.fixture(scope="module")
def watched(colour_model: Path, colour_data: Path, tmp_path_factory: pytest.TempPathFactory) -> WatchedAudit:
    sizes: list[tuple[int, ...]] = []
    entered: dict[str, None] = {}
    watch_pass, folder = layers._watch_pass, tmp_path_factory.mktemp("watched")

    def count(model: nn.Module, images: Tensor) -> dict:
        sizes.append(tuple(images.shape[2:]))
        return watch_pass(model, images)

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & OPTIMIZED and code.co_filename.startswith(str(PACKAGE)):
            entered.setdefault(Path(code.co_filename).relative_to(PACKAGE).as_posix())

    words = [str(colour_model), str(colour_data), "--out", str(folder / "out"), "--cache", str(folder / "cache")]
    words += ["--format", "json", "--n-latents", "8", "--sae-seeds", "1", "--interventions", "salve,steering"]
    words += ["--device", "cpu", "--workers", "0", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "_watch_pass", count)
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            code = run(words)
        finally:
            sys.setprofile(before)
    assert code == 0
    return WatchedAudit(json.loads((folder / "out" / "audit.json").read_text()), sizes, list(entered))


def test_an_audit_traces_its_network_once(watched: WatchedAudit) -> None:
    audit, sizes = watched.audit, watched.sizes
    assert audit["seeing"]["why_absent"] == "" == audit["evidence"]["why_absent"], "both stages had layers to find"
    assert audit["seeing"]["layer"], audit["seeing"]
    assert audit["evidence"]["layer"], audit["evidence"]
    assert sizes.count(sizes[0]) == 1, sizes
    assert len(sizes) <= 2, "a second pass is of images of twice the size, where corners verify nothing"


def test_the_reading_order_is_the_order_of_an_audit(watched: WatchedAudit) -> None:
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", READING_ORDER.read_text(encoding="utf-8"), re.MULTILINE)
    assert 0 < len(listed) <= MOST_FILES
    assert [path for path in watched.entered if path in listed] == listed
