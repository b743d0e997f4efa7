"""Every option is declared once: checks, provenance and documentation follow from its field."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Annotated, Any

import pytest

from salve_audit.config import METHODS, SECTIONS, AuditConfig, described
from salve_audit.errors import UsageError
from salve_audit.options import (
    ARGUMENT,
    FLAG,
    LIBRARY,
    DeclaredOption,
    Option,
    check_options,
    declared_options,
    flag_options,
    render_options,
)
from salve_audit.sae.variant_names import VARIANT_NAMES

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "write_options.py"
OPTIONS = declared_options(AuditConfig)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_every_field_is_described(option: DeclaredOption) -> None:
    about = option.about
    assert about.help.endswith(".")
    assert about.help[0].isupper()
    assert about.section
    assert option.kind.optional == (option.default is None and option.name != "model")
    if option.kind.types == (bool,):
        assert about.metavar is None
        assert about.choices == ()
    assert (about.negative is not None) == (option.default is True)


def test_options_are_flags_and_keys_but_for_the_arguments_and_the_progress_bar() -> None:
    places = {name: option.about.place for name, option in OPTIONS.items() if option.about.place != FLAG}
    assert places == {"model": ARGUMENT, "data": ARGUMENT, "progress": LIBRARY}
    assert tuple(flag_options(AuditConfig)) == tuple(name for name in OPTIONS if name not in places)


def test_provenance_holds_what_changes_the_measurements() -> None:
    without = {"model", "data", "classes", "out", "format", "workers", "cache", "cache_limit", "use_cache"}
    without |= {"keep_activations", "policy", "baseline", "pdf", "paper", "lang", "anonymise", "engine", "ray_address"}
    without |= {"allow_mismatch"}
    recorded = described(AuditConfig("m", "d", sae="supervised", attributes=("a",)))
    assert set(recorded) == set(OPTIONS) - without - {"progress"}
    assert recorded["attributes"] == ["a"]
    assert recorded["interventions"] == list(METHODS)
    assert recorded["seed"] == 0


def test_the_document_is_the_one_made_from_the_fields() -> None:
    """``make options`` writes it anew."""
    written = runpy.run_path(str(SCRIPT))
    assert written["DOCUMENT"].read_text(encoding="utf-8") == written["HEAD"] + render_options(AuditConfig, SECTIONS)


def test_variants_are_the_named_ones() -> None:
    from salve_audit.sae.variants import VARIANTS

    assert set(VARIANTS) == set(VARIANT_NAMES)
    assert all(variant.name == name for name, variant in VARIANTS.items())
    assert OPTIONS["sae"].about.choices == ("auto", *VARIANT_NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": object()}, "model: expected str or Path, got object"),
        ({"model": None}, "model: expected str or Path, got NoneType"),
        ({"trust_model": "no"}, "trust_model: expected bool, got str"),
        ({"trust_model": 1}, "trust_model: expected bool, got int"),
        ({"format": "json"}, "format: expected a list of strings, got str"),
        ({"format": ("json", 1)}, "format: expected a list of strings"),
        ({"interventions": {"salve": 1}}, "interventions: expected a list of strings, got dict"),
        ({"limit": "60"}, "limit: expected int, got str"),
        ({"limit": 60.0}, "limit: expected int, got float"),
        ({"seed": True}, "seed: expected int, got bool"),
        ({"seed": None}, "seed: expected int, got NoneType"),
        ({"fail_under": "1"}, "fail_under: expected int or float, got str"),
        ({"out": 3}, "out: expected str or Path, got int"),
        ({"device": 0}, "device: expected str, got int"),
        ({"evidence": "on"}, "evidence: 'on' is not one of auto, off"),
        ({"evidence_layer": ("layer1",)}, "evidence_layer: expected str, got tuple"),
        ({"evidence_layer": "layer1", "evidence": "off"}, "evidence_layer: is named, but evidence is off"),
        ({"attributes": ("a",)}, "attributes: auto knows no attributes"),
        ({"attributes": "a", "sae": "supervised"}, "attributes: expected a list of strings, got str"),
        ({"seed": -1}, "seed: -1 is below 0"),
        ({"sae_seeds": 101}, "sae_seeds: 101 is above 100"),
        (
            {"evidence": "off", "fail_over_reliance": 0.5},
            "evidence: is off, but a limit on redundancy or image reliance",
        ),
    ],
)
def test_wrong_values_name_the_option_and_the_expected_type(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        AuditConfig(**{"model": "m", **change})
    assert str(raised.value).startswith(message)


def test_lists_become_tuples_while_paths_and_numbers_stay() -> None:
    config = AuditConfig(Path("m"), format=["json"], fail_under=1, limit=None)  # type: ignore[arg-type]
    assert (config.format, config.model, config.fail_under) == (("json",), Path("m"), 1)


@dataclasses.dataclass(frozen=True)
class Own:
    """Options of something else."""

    size: Annotated[float, Option("Its size.", "Own", metavar="X", least=1)] = 2.5
    names: Annotated[tuple[str, ...], Option("Its names.", "Own", choices=("a", "b"))] = ("a",)

    def __post_init__(self) -> None:
        check_options(Own, self)


def test_nothing_but_the_field_says_what_an_option_is() -> None:
    assert Own(size=3, names=("b",)).size == 3
    with pytest.raises(UsageError, match=r"^size: 0.5 is below 1$"):
        Own(size=0.5)
    with pytest.raises(UsageError, match=r"^names: 'c' is not one of a, b$"):
        Own(names=("a", "c"))
    assert "| `--size X` | `size`, int or float | 2.5 | yes | Its size. |" in render_options(Own, ["Own"])
