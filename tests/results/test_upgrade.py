"""audit.json of version 1 is read as version 2; the JSON Schema is what the dataclasses say."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from salve_audit.errors import ResultError
from salve_audit.report import render_html
from salve_audit.results import SCHEMA_VERSION, AuditResult, parse_audit
from salve_audit.results.json_schema import FILE, build_schema, render_schema
from salve_audit.results.upgrade import upgrade

VERSION_1 = gzip.decompress((Path(__file__).parent / "audit-v1.json.gz").read_bytes()).decode("utf-8")


@pytest.fixture(scope="module")
def old() -> dict[str, Any]:
    """The demo's audit.json as version 1 wrote it, its images reduced to a pixel each."""
    return json.loads(VERSION_1)


@pytest.fixture(scope="module")
def upgraded() -> AuditResult:
    return parse_audit(VERSION_1)


def test_every_number_of_the_image_measure_is_kept(old: dict[str, Any], upgraded: AuditResult) -> None:
    assert old["schema_version"] == 1
    assert upgraded.schema_version == SCHEMA_VERSION == 2
    for before, after in zip(old["classes"], upgraded.classes, strict=True):
        reliance = after.image_reliance
        assert reliance is not None
        assert (reliance.reliance, reliance.low, reliance.high) == tuple(
            before["depth"][key] for key in ("reliance", "low", "high")
        )
        assert (reliance.chance, reliance.chance_low, reliance.chance_high) == tuple(
            before["depth"][key] for key in ("null", "null_low", "null_high")
        )
        assert reliance.redundancy == before["depth"]["redundancy"]
        assert after.feature_redundancy == before["redundancy"]
        assert reliance.kind == ("region" if reliance.concept is not None else None)
    assert upgraded.evidence is not None
    assert upgraded.evidence.layer == old["depth"]["layers"][0]
    assert upgraded.evidence.n_images == old["depth"]["n_pictures"]


def test_concepts_keep_channels_signatures_and_projections(old: dict[str, Any], upgraded: AuditResult) -> None:
    n_projected = 0
    for before, after in zip(old["concepts"], upgraded.concepts, strict=True):
        assert list(after.channels) == before["latents"]
        assert list(after.signature) == before["trait"]
        assert [image.flipped for image in after.images] == [image["lost"] for image in before["images"]]
        projected = [removal for removal in before["removals"] if removal["rank"]]
        assert (after.removal is None) == (not projected)
        if after.removal is not None:
            n_projected += 1
            assert (after.removal.drop, after.removal.chance) == (projected[0]["drop"], projected[0]["null"])
    assert n_projected > 0


def test_words_of_statistics_rules_and_options_follow(old: dict[str, Any]) -> None:
    policy = {"rule": "reliance at depth at most", "class": "castle"}
    value = upgrade({**old, "verdict": {"rules": [policy]}})
    assert value["verdict"]["rules"][0]["rule"] == "image reliance at most"
    statistics = [correlation["statistic"] for correlation in value["demo"]["correlations"]]
    assert {"feature_redundancy", "image_reliance", "redundancy"} <= set(statistics)
    assert len(set(statistics)) == len(statistics)
    config = value["provenance"]["config"]
    assert (config["evidence"], config["evidence_layer"]) == (old["provenance"]["config"]["depth"], None)
    assert "attributes" in config
    assert old["schema_version"] == 1, "the value that was given stays"


def test_a_report_is_rendered_from_version_1_in_the_words_of_version_2(upgraded: AuditResult) -> None:
    page = render_html(upgraded)
    assert "Image reliance" in page
    words = re.sub(r"<(style|script).*?</\1>|<[^>]*>|data:image/\S+", " ", page, flags=re.DOTALL)
    assert not re.findall(
        r"\b(?:pictures?|pieces?|rests? on|taken out|turns? wrong|told apart|at depth|trait)\b", words
    )


def test_policies_keep_their_numbers_in_new_words(old: dict[str, Any]) -> None:
    value = upgrade({**old, "verdict": {"policy": "fail under 1.5; fail over a reliance of 0.4", "rules": []}})
    assert value["verdict"]["policy"] == "fail under 1.5; fail over an image reliance of 0.4"


@pytest.mark.parametrize("version", [0, 3, "2", None, True, 1.0, 2.0])
def test_other_versions_are_named_with_what_is_read(version: object) -> None:
    value = json.loads(VERSION_1) | {"schema_version": version}
    with pytest.raises(ResultError) as caught:
        parse_audit(json.dumps(value), "some.json")
    assert f"some.json: schema_version is {version!r}, this version of salve-audit reads 1 to 2" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 3},
        {"classes": [None]},
        {"concepts": {"a": 1}},
        {"depth": []},
        {"seeing": {"features": [3]}},
        {"demo": "x"},
        {"provenance": None},
        {"concepts": [{"kind": ["place"], "removals": 3, "images": "x"}]},
        {"classes": [{"depth": {"concept": [1]}}]},
        {"concepts": [{"index": []}]},
        {"concepts": [{"index": {}}]},
        {"depth": {"method": 3}, "notes": [4], "verdict": {"policy": []}},
    ],
)
def test_malformed_files_of_version_1_are_errors_not_crashes(old: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(ResultError, match=r"^audit\.json: "):
        parse_audit(json.dumps(old | change))


def test_the_shipped_schema_is_what_the_dataclasses_say() -> None:
    assert FILE.read_text(encoding="utf-8") == render_schema(), "run python -m salve_audit.results.json_schema"
    jsonschema.Draft202012Validator.check_schema(build_schema())


def test_the_schema_takes_an_audit_and_refuses_what_reading_refuses(upgraded: AuditResult) -> None:
    validator = jsonschema.Draft202012Validator(build_schema())
    value = json.loads(upgraded.to_json())
    validator.validate(value)
    for wrong in (
        value | {"schema_version": 1},
        value | {"surplus": 1},
        value | {"seed": "0"},
        {key: part for key, part in value.items() if key != "classes"},
    ):
        assert not validator.is_valid(wrong)
