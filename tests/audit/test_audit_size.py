"""The audit.json of a thousand classes with everything in it stays under 20 MB, and says the same."""

from __future__ import annotations

import dataclasses
import json

from report_reliance import build_scenario

from salve_audit.audit.assemble import shorten
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.results.audit import parse_audit
from salve_audit.results.digest import is_sealed, seal
from salve_audit.results.schema import to_dict

MOST_BYTES = 20 * 10**6


def test_a_thousand_classes_fit_into_20_mb() -> None:
    made = build_scenario("thousand")
    classes = []
    for info in made.classes:  # the made audit has some of the global factors
        reliance = info.image_reliance
        if reliance is not None:
            factors = [dataclasses.replace(reliance.factors[0], name=name) for name in FACTORS]
            info = dataclasses.replace(info, image_reliance=dataclasses.replace(reliance, factors=tuple(factors)))
        classes.append(info)
    result = shorten(dataclasses.replace(made, classes=tuple(classes)))
    text = result.to_json()
    assert len(result.classes) == 1000
    assert len(text.encode()) < MOST_BYTES
    value = json.loads(text)
    assert value == json.loads(seal(to_dict(result)))
    assert is_sealed(text, value)
    assert not is_sealed(
        text.replace('"accuracy": 0.', '"accuracy": 1.', 1), json.loads(text) | {"created": "", "n": 1}
    )
    assert parse_audit(text) == result
