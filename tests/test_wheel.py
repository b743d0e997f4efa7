"""What is shipped works where it is installed: the wheel, in an environment without torch, renders a report."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pypdf
import pytest

from salve_audit.results import parse_audit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE = REPOSITORY / "sample_reports" / "demo" / "audit.json"
RENDERING = ("jinja2", "weasyprint", "click", "numpy", "jaxtyping", "tomli")  # what `report` needs; no torch


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script in a fresh environment that holds the wheel and what rendering needs."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True)
    subprocess.run([*pip, "-c", str(REPOSITORY / "constraints.txt"), *RENDERING], check=True, capture_output=True)
    return home / "bin" / "salve-audit"


def test_the_wheel_holds_templates_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"salve_audit/py.typed", "salve_audit/results/audit.schema.json"} <= set(names)
    assert any(name.startswith("salve_audit/templates/") and name.endswith(".j2") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {"salve_audit", f"salve_audit-{wheel.name.split('-')[1]}.dist-info"}


def test_the_wheel_holds_the_index_of_architectures(wheel: Path) -> None:
    index = zipfile.ZipFile(wheel).getinfo("salve_audit/inputs/model/inference/architectures.json.xz")
    assert 10_000 < index.compress_size <= 1 << 20


def test_an_installed_wheel_renders_a_report_without_torch(installed: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(installed), "report", str(EXAMPLE), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    result = parse_audit(EXAMPLE.read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(class_record.name in page for class_record in result.classes)
    pdf = pypdf.PdfReader(tmp_path / "out" / "report.pdf")
    assert pdf.attachments["audit.json"][0] == EXAMPLE.read_bytes()
    torch = subprocess.run([str(installed.parent / "python"), "-c", "import torch"], capture_output=True)
    assert torch.returncode != 0, "this environment must not have torch, or the test shows nothing"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("gate", "AUDIT", "--fail-over-reliance", "0.5", "--allow-mismatch", "digest"), 1),
        (("compare", "AUDIT", "AUDIT", "--allow-mismatch", "digest"), 0),
        (("export", "AUDIT", "--to", "model-card", "card"), 0),
        (("export", "AUDIT", "--to", "csv", "tables"), 0),
        (("export", "AUDIT", "--to", "mlflow", "mlruns"), 0),
        (("cache", "list"), 0),
        (("--help",), 0),
    ],
)
def test_what_needs_no_torch_runs_without_it(
    installed: Path, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(installed), *(str(EXAMPLE) if word == "AUDIT" else word for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == code, done.stderr


def test_the_documentation_names_what_these_commands_need() -> None:
    page = (REPOSITORY / "docs" / "command-line.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("pip install click"))
    named = {word.strip('"').partition(";")[0] for word in line.split()[2:]}
    assert set(RENDERING) <= named
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["report"]
    assert [text.partition(">")[0] for text in extra] == [
        "click",
        "jinja2",
        "weasyprint",
        "numpy",
        "jaxtyping",
        "tomli",
    ]
    assert set(extra) <= set(project["project"]["dependencies"])
    assert extra == project["dependency-groups"]["report"]


def test_a_release_has_the_addresses_of_the_repository_that_builds_it() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert "urls" not in tomllib.loads(text)["project"]
    render = runpy.run_path(str(REPOSITORY / "scripts" / "add_project_urls.py"))["render_urls"]
    urls = tomllib.loads(text + render("https://host/own/name"))["project"]["urls"]
    assert urls["Homepage"] == "https://host/own/name"
    for page in (urls["Documentation"], urls["Changelog"]):
        assert (REPOSITORY / page.removeprefix("https://host/own/name/blob/main/")).is_file()
    published = [
        *REPOSITORY.glob(".github/ISSUE_TEMPLATE/*"),
        *(REPOSITORY / name for name in ("mkdocs.yml", "CITATION.cff")),
    ]
    assert [file.name for file in published if "OWNER" in file.read_text(encoding="utf-8")] == []
