"""The line between packages: what may be imported by what, and what stays unloaded in fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import salve_audit

PACKAGE = Path(salve_audit.__file__).parent
FOUNDATIONS = (
    "callable_package",
    "errors",
    "linear_algebra",
    "machine",
    "mapped_pages",
    "tasks",
    "whole_files",
)  # which every package may import
HEAVY = ("torch", "timm", "torchvision")

# In the order of the line; each package may import those named, and the foundations. CONTRIBUTING.md has the order.
LINE = {
    "results": set[str](),
    "inputs": {"results"},
    "activations": {"inputs", "results"},
    "spatial": {"inputs"},
    "sae": {"inputs", "results"},
    "reliance": {"inputs", "results", "sae"},
    "interventions": {"activations", "inputs", "reliance", "results", "spatial"},
    "stress": {"activations", "interventions", "reliance", "results"},
    "saliency": {"activations", "inputs", "reliance", "results", "sae", "spatial", "stress"},
    "evidence": {"activations", "inputs", "reliance", "results", "sae", "saliency", "spatial"},
    "data_check": {"activations", "inputs", "results"},  # of activations the spreading of rows alone, see below
    "gate": {"inputs", "interventions", "results"},  # the hash of a file and the names of methods alone, see below
    "report": {"interventions", "results"},  # of interventions the names alone, see below
    "compare": {"gate", "report", "results"},
}
STAGES = tuple(LINE)
ABOVE = {
    "options": set[str](),
    "config": {"gate", "interventions", "options", "sae"},  # limits, names of methods and variants
    "settings": {"config", "options"},
    "audit": {*STAGES, "config"},
    "edit": {*STAGES, "audit"} - {"compare", "gate", "report", "stress"},
    "explain": {*STAGES, "audit", "edit"} - {"compare", "gate", "stress"},
    "export": {"audit", "gate", "report", "results"},
    "live": {*STAGES, "audit", "config", "edit", "explain", "options"} - {"compare", "gate", "report", "stress"},
    "demo": {"audit", "config", "results"},
    "pytest_plugin": {"activations", "audit", "config", "gate"},  # of activations the lock alone, see below
    "cli": {*STAGES, "audit", "config", "demo", "edit", "explain", "export", "options", "settings"},
}
NAMES_ONLY = {
    "config": {f"salve_audit.gate.{name}" for name in ("policy", "policy_file", "rules")}
    | {"salve_audit.interventions.registry", "salve_audit.sae.variant_names"},
    "data_check": {"salve_audit.activations.spread"},
    "gate": {"salve_audit.inputs.digest", "salve_audit.interventions.registry"},
    "pytest_plugin": {"salve_audit.activations.lock"},
    "report": {"salve_audit.interventions.registry"},
}


def imported_by(package: str) -> set[str]:
    """Modules of salve_audit that a package, or a module at the top, imports anywhere, inside functions too."""
    root = PACKAGE / package
    files = sorted(root.rglob("*.py")) if root.is_dir() else [PACKAGE / f"{package}.py"]
    assert files, f"{package} is no package"
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "salve_audit":
                names |= {f"salve_audit.{alias.name}" for alias in node.names if alias.name != "__version__"}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("salve_audit."):
                names.add(str(node.module))
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names if alias.name.startswith("salve_audit.")}
    return {name for name in names if name.split(".")[1] not in (package, *FOUNDATIONS)}


def loaded_after(code: str) -> set[str]:
    """Top-level modules in sys.modules after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_package_has_its_place() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__", "__main__", *FOUNDATIONS} == {*LINE, *ABOVE}


@pytest.mark.parametrize("package", [*LINE, *ABOVE])
def test_a_package_imports_only_what_it_may(package: str) -> None:
    modules = imported_by(package)
    allowed = LINE.get(package, set()) | ABOVE.get(package, set())
    assert {name.split(".")[1] for name in modules} <= allowed
    for name in modules:
        if name.split(".")[1] in {light.split(".")[1] for light in NAMES_ONLY.get(package, set())}:
            assert name in NAMES_ONLY[package]


def test_the_line_has_no_way_back() -> None:
    for place, package in enumerate(STAGES):
        assert LINE[package] <= set(STAGES[:place]), package


def test_contributing_names_the_order_of_the_line() -> None:
    text = " ".join((PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    assert " → ".join(STAGES[:10]) in text


def test_evidence_knows_neither_configuration_nor_subject() -> None:
    assert not [
        name for name in imported_by("evidence") if name.startswith(("salve_audit.config", "salve_audit.audit"))
    ]


@pytest.mark.parametrize(
    "module",
    ["salve_audit", "salve_audit.results", "salve_audit.report", "salve_audit.gate.verdict", "salve_audit.cli.app"],
)
def test_light_modules_load_neither_torch_nor_timm(module: str) -> None:
    assert not loaded_after(f"import {module}") & set(HEAVY)


def test_the_package_itself_loads_neither_click_nor_numpy() -> None:
    assert not loaded_after("import salve_audit") & {"click", "numpy", "pandas", "weasyprint", *HEAVY}


def test_the_configuration_loads_neither_numpy_nor_click() -> None:
    modules = ("config", "options", "settings", "sae.variant_names", "interventions.registry")
    code = "\n".join(f"import salve_audit.{module}" for module in modules)
    assert not loaded_after(code) & {"click", "numpy", "jaxtyping", "scipy", "pandas", "weasyprint", *HEAVY}


def test_help_loads_only_click() -> None:
    code = "from salve_audit.cli.app import run\nassert run(['--help']) == 0\nimport os; os.write(1, b'')"
    assert not loaded_after(code) & {"numpy", "pandas", "weasyprint", "jinja2", *HEAVY}


def test_results_are_read_judged_and_compared_without_torch(tmp_path: Path) -> None:
    code = "import sys\nfrom salve_audit import compare, explain, judge, load_audit, gate, SalveError\n"
    run = f"try: judge({str(tmp_path)!r}, max_image_reliance=0.5)\nexcept SalveError: pass\n"
    assert not loaded_after(code + run + run.replace("judge", "compare").replace("max_image_reliance=0.5", "'x'")) & {
        "click",
        *HEAVY,
    }


def test_thresholds_need_no_torch() -> None:
    assert "torch" not in loaded_after("from salve_audit import thresholds")
