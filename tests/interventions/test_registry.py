"""A method is declared in one place: what a new record brings with it, and that no other module spells a key."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import salve_audit
from salve_audit.config import AuditConfig
from salve_audit.edit.apply import apply_steps
from salve_audit.edit.plan import Step, find_target, parse_step
from salve_audit.errors import UsageError
from salve_audit.interventions import registry
from salve_audit.interventions.affine import Intervention, RankOneEdit, rank_one_intervention
from salve_audit.interventions.comparison import Comparison, ComparisonInputs, ComparisonSettings
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.registry import DEEP_METHODS, METHODS, REFERENCES, SALVE, YARDSTICK, Method, Need, Role
from salve_audit.report.view.interventions import build_interventions
from salve_audit.report.view.page import HTML
from salve_audit.report.view.provenance import build_method
from salve_audit.report.view.ranking import rank
from salve_audit.stress.matched_edits import MatchedEdits

PACKAGE = Path(salve_audit.__file__).parent
SETTINGS = {"n_bootstrap": 50}


def lower_bias(context: EditContext) -> Intervention:
    """The class's bias less t."""
    return _lower("lower-bias", context)


def lower_bias_as_control(context: EditContext) -> Intervention:
    """The class's bias less t, as a control."""
    return _lower("control", context)


def _lower(method: str, context: EditContext) -> Intervention:
    zeros = np.zeros_like(context.head.bias)
    bias = zeros.copy()
    bias[context.class_index] = -1.0
    edit = RankOneEdit(left=zeros, right=np.zeros(context.head.weight.shape[1]), bias=bias)
    return rank_one_intervention(method, context.head, edit)


MADE_UP = Method(
    "lower-bias", "bias lowering", "The class's bias less t.", f"{__name__}:lower_bias", frozenset({Need.CLASS})
)
CONTROL = Method(
    "control",
    "made-up control",
    "Lowers the bias, too.",
    f"{__name__}:lower_bias_as_control",
    frozenset({Need.CLASS}),
    role=Role.NULL,
    editable=False,
)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Method:
    """A method and a control, registered and nothing else."""
    for method in (MADE_UP, CONTROL):
        monkeypatch.setitem(registry._METHODS, method.key, method)
    return MADE_UP


@pytest.fixture
def comparison(made_up: Method, world: ComparisonInputs) -> Comparison:
    methods = (SALVE.key, YARDSTICK.key, made_up.key)
    return compare_interventions(ComparisonSettings(methods, **SETTINGS), world)


def test_it_may_be_configured(made_up: Method) -> None:
    assert AuditConfig("model", interventions=(made_up.key,)).interventions == (made_up.key,)
    assert made_up.key in ComparisonSettings().methods
    with pytest.raises(UsageError, match=f"'other' is not one of .*{made_up.key}"):
        AuditConfig("model", interventions=("other",))


def test_it_is_compared_with_all_others(made_up: Method, comparison: Comparison, world: ComparisonInputs) -> None:
    own = [result for result in comparison.results if result.method == made_up.key]
    assert {result.class_name for result in own} == set(world.class_names)
    assert all(result.reached for result in own)
    summaries = [summary for summary in comparison.summary if summary.method == made_up.key]
    assert len(summaries) == 2
    for summary in summaries:
        assert summary.n_common == len(world.class_names)  # row scaling reaches every target as well
        assert summary.n_common_salve > 0
        assert summary.difference is not None
        assert summary.p_salve_holm is not None


def test_its_edits_are_stressed(made_up: Method, comparison: Comparison, world: ComparisonInputs) -> None:
    edits = MatchedEdits(world, comparison.results, 0)
    assert made_up.key in edits.methods
    changed = edits.edit(made_up.key, 1).bias - edits.head.bias
    assert np.flatnonzero(changed).tolist() == [1]


def test_the_report_ranks_and_explains_it(made_up: Method, comparison: Comparison) -> None:
    result = SimpleNamespace(
        interventions=comparison.results,
        intervention_summary=comparison.summary,
        intervention_spread=comparison.spreads,
        classes=(),
        deep_edits=None,
    )
    parts = build_interventions(result, HTML).parts  # type: ignore[arg-type]
    assert made_up.label in parts["figure"].charts[0].svg
    assert all(made_up.label in [row[0].text for row in table.rows] for table in parts["summary"])
    assert all(f"{made_up.label} " in order for order, _ in parts["ranking"])
    assert ("Bias lowering", made_up.blurb) in build_method(result).parts["methods"]  # type: ignore[arg-type]


def test_a_control_is_compared_and_not_ranked(made_up: Method, world: ComparisonInputs) -> None:
    compared = compare_interventions(ComparisonSettings((SALVE.key, made_up.key, CONTROL.key), **SETTINGS), world)
    assert {summary.method for summary in compared.summary} == {SALVE.key, made_up.key, CONTROL.key}
    assert all(made_up.label in order and CONTROL.label not in order for order, _ in rank(compared.summary))


def evidence(world: ComparisonInputs) -> Any:
    """What an audit's files say, without activations."""
    sae = SimpleNamespace(n_latents=len(world.dictionary), dictionary=world.dictionary)
    audit = SimpleNamespace(sae=sae, result=SimpleNamespace(seed=0, features=(), classes=()))
    return SimpleNamespace(head=world.head, audit=audit, dominant=world.features, alive=world.alive)


def test_it_may_be_written_into_a_checkpoint(made_up: Method, world: ComparisonInputs) -> None:
    step = parse_step(f"class=class 1,method={made_up.key},strength=2")
    result = SimpleNamespace(data=SimpleNamespace(classes=world.class_names), classes=())
    target = find_target(step, result, ())  # type: ignore[arg-type]
    edited = apply_steps([target], evidence(world))
    expected = np.zeros(len(world.class_names))
    expected[1] = -2.0
    np.testing.assert_allclose(edited.after.bias - edited.before.bias, expected, atol=1e-12)
    assert edited.after.weight.tobytes() == edited.before.weight.tobytes()


def test_its_record_says_how_it_may_be_edited(made_up: Method) -> None:
    with pytest.raises(UsageError, match=f"{made_up.key} edits a class"):
        Step("a", feature="1", strength=1.0, method=made_up.key)
    with pytest.raises(UsageError, match=f"'{CONTROL.key}' is not one of .*{made_up.key}"):
        Step("a", strength=1.0, method=CONTROL.key)


def test_the_command_line_offers_it() -> None:
    code = (
        "from salve_audit.interventions import registry\n"
        "made_up = registry.Method('made-up', 'made up', 'Nothing.', 'nowhere:nothing')\n"
        "registry._METHODS['made-up'] = made_up\n"
        "from salve_audit.cli.app import run\n"
        "assert run(['audit', '--help']) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "made-up" in done.stdout


KEYS = (*METHODS, *DEEP_METHODS, *REFERENCES)
COMPOUND = re.compile(rf"(?<![\w-])({'|'.join(key for key in KEYS if '-' in key)})(?![\w-])")
WORDS = {("report/view/sweeps.py", "unedited")}  # the header of a column


def find_keys(file: Path) -> list[str]:
    """Keys in strings of a module, docstrings left out: a key alone, or a hyphenated one anywhere."""
    tree = ast.parse(file.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return [text for text in texts if text in KEYS or COMPOUND.search(text)]


def test_keys_are_spelt_in_the_registry_alone() -> None:
    spelt = {(file.relative_to(PACKAGE).as_posix(), text) for file in PACKAGE.rglob("*.py") for text in find_keys(file)}
    assert {key for path, key in spelt if path == "interventions/registry.py"} >= set(KEYS)
    assert {(path, text) for path, text in spelt if path != "interventions/registry.py"} == WORDS


def test_a_spelt_key_is_noticed(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(f'"""On {YARDSTICK.key}."""\nx = "{SALVE.key}"\ny = f"use {YARDSTICK.key} {{x}}"\nz = "SALVE"\n')
    assert find_keys(module) == [SALVE.key, f"use {YARDSTICK.key} "]
