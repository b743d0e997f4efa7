"""What docs/library.md and the docstrings of the public names show is run."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from live_world import NAMES, World

import salve_audit
from salve_audit import AuditResult

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "library.md"
LIVE = ("audit_model", "apply_edit", "heat_map", "explain")
PLAIN = ("AuditConfig", "AuditResult", "SalveError", "SparseAutoencoder", "compare", "judge", "load_audit", "load_sae")
OTHER = ("gate", "run_audit", "thresholds", "Thresholds")


@pytest.fixture
def place(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an audit in ``salve-report``."""
    shutil.copytree(saved, tmp_path / "salve-report")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def documented(name: str) -> Any:
    """The object whose docstring is meant: of a package that can be called, its function."""
    homes = {"compare": "compare.library", "explain": "live.explanation", "gate": "gate.notebook"}
    if name not in homes:
        return getattr(salve_audit, name)
    module = __import__(f"salve_audit.{homes[name]}", fromlist=["x"])
    return getattr(module, "judge_for_people" if name == "gate" else name)


def test_every_public_name_has_an_example() -> None:
    assert sorted((*LIVE, *PLAIN, *OTHER)) == sorted(set(salve_audit.__all__) - {"__version__"})
    assert not [name for name in salve_audit.__all__ if name != "__version__" and ">>>" not in documented(name).__doc__]


@pytest.mark.parametrize("name", [*PLAIN, *OTHER, *LIVE])
@pytest.mark.usefixtures("place")
def test_the_example_of_a_public_name_runs(name: str, world: World) -> None:
    own = {"salve_audit": salve_audit, **world._asdict(), "names": NAMES}
    test = doctest.DocTestParser().get_doctest(documented(name).__doc__, own, name, None, None)
    report: list[str] = []
    failed, attempted = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert attempted
    assert not failed, "".join(report)


def test_the_document_of_the_library_runs(place: Path, world: World, audited: AuditResult) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    images = world.val[0]
    names: dict[str, Any] = {**world._asdict(), "names": NAMES, "r": audited, "images": images, "old": audited}
    names |= {"acts": world.model.second(world.model.conv(images).relu()).relu().mean((2, 3)).detach()}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/library.md, block {number}", "exec"), names)
    assert (place / "salve-report" / "audit.json").is_file()
