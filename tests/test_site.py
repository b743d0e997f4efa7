"""The site of the documentation and the tutorial: strict about links, references and anchors, and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import salve_audit

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    reference = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("audit_model", "load_audit", "AuditResult", "thresholds", "SparseAutoencoder"):
        assert f">{name}" in reference, name


def test_every_page_is_in_the_navigation() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = [line.split()[-1] for line in text.partition("nav:")[2].splitlines() if line.endswith(".md")]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_tutorial_runs_and_is_saved_without_outputs(tmp_path: Path) -> None:
    notebook = DOCS / "tutorial.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"])]
    (tmp_path / notebook.name).write_bytes(notebook.read_bytes())
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=300", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, notebook.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_files_for_github_and_for_citations_are_yaml() -> None:
    files = [*REPOSITORY.glob(".github/**/*.yml"), REPOSITORY / "CITATION.cff"]
    assert len(files) >= 6
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict), file
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == salve_audit.__version__


def test_every_make_target_that_is_named_exists() -> None:
    pages = [*REPOSITORY.glob("*.md"), *DOCS.glob("*.md"), *REPOSITORY.glob(".github/**/*.yml"), REPOSITORY / ".ci/run"]
    sources = [*(REPOSITORY / "scripts").glob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py")]
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (file.name, target)
        for file in (*pages, *sources)
        for target in re.findall(r"(?:`|run: |^)make ([a-z-]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {target for _, target in named} >= {"test", "test-fast", "docs", "options", "test-oldest"}
    assert {target for file, target in named if file == "ci.yml"} == {"docs", "test-oldest"}  # and .ci/run
    assert [(file, target) for file, target in sorted(named) if target not in targets] == []
