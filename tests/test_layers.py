"""The line between stages: what may be imported by what, checked in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "torchvision")


def loaded_after(code: str) -> set[str]:
    """Top-level modules in sys.modules after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["salve_audit", "salve_audit.results", "salve_audit.report", "salve_audit.gate.verdict", "salve_audit.cli.app"],
)
def test_light_modules_load_neither_torch_nor_timm(module: str) -> None:
    assert not loaded_after(f"import {module}") & set(HEAVY)


def test_the_package_itself_loads_neither_click_nor_numpy() -> None:
    assert not loaded_after("import salve_audit") & {"click", "numpy", "pandas", "weasyprint", *HEAVY}


def test_help_loads_only_click() -> None:
    code = "from salve_audit.cli.app import run\nassert run(['--help']) == 0\nimport os; os.write(1, b'')"
    assert not loaded_after(code) & {"numpy", "pandas", "weasyprint", "jinja2", *HEAVY}


def test_thresholds_need_no_torch() -> None:
    assert "torch" not in loaded_after("from salve_audit import thresholds")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("inputs", ("activations", "spatial", "sae", "reliance", "interventions", "saliency", "report", "gate")),
        ("activations", ("spatial", "sae", "reliance", "interventions", "saliency", "report", "gate")),
        ("spatial", ("activations", "sae", "reliance", "interventions", "saliency", "report", "gate")),
        ("sae", ("spatial", "reliance", "interventions", "saliency", "report", "gate")),
        ("reliance", ("interventions", "saliency", "report", "gate")),
        ("interventions", ("stress", "saliency", "report", "gate")),
        ("stress", ("saliency", "report", "gate")),
        ("saliency", ("depth", "report", "gate")),
        ("depth", ("report", "gate")),
        ("report", ("inputs", "activations", "spatial", "sae", "reliance", "interventions", "saliency", "gate")),
        ("gate", ("inputs", "activations", "spatial", "sae", "reliance", "interventions", "saliency", "report")),
    ],
)
def test_no_stage_reads_a_later_one(earlier: str, later: tuple[str, ...]) -> None:
    """Every module of a stage, imported alone, leaves the later stages unloaded."""
    code = (
        "import importlib, pkgutil, sys\n"
        f"import salve_audit.{earlier} as stage\n"
        "for info in pkgutil.walk_packages(stage.__path__, stage.__name__ + '.'):\n"
        "    importlib.import_module(info.name)\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split() if name.startswith("salve_audit.")}
    assert not loaded & set(later)
