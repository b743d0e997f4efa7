"""The precision of a pass: bf16 only where it was compared, agrees and gains; remembered, and said."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from salve_audit.activations import precision
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.images import first_images
from salve_audit.activations.precision import choose_precision, needs_probe
from salve_audit.activations.store import Precision

CPU = torch.device("cpu")


@pytest.fixture
def probe(classifier, imageset) -> torch.Tensor:
    return first_images(imageset.reader, imageset.audit.paths, classifier.transform, 24)


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bf16 units, and passes that are always long enough."""
    monkeypatch.setattr(precision, "has_bf16_units", lambda: True)
    monkeypatch.setattr(precision, "LEAST_WORK", 0.0)


@pytest.mark.parametrize(("gain", "expected"), [(1.8, "bf16"), (1.1, "fp32"), (0.7, "fp32")])
def test_auto_takes_what_is_faster(gain: float, expected: str, classifier, probe, monkeypatch) -> None:
    monkeypatch.setattr(precision, "measure_gain", lambda *_: gain)
    chosen = choose_precision(classifier, "auto", CPU, probe)
    assert chosen == Precision(expected, 1.0, 24, gain)
    assert (
        f"100.0% of 24 predictions are those of float32, a batch is {gain} times faster"
        in chosen.describe().replace("in bfloat16 ", "")
    )


class Rough(nn.Module):
    """A network whose predictions turn over in bf16."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rough = torch.is_autocast_enabled("cpu")
        acts = torch.relu(self.inner.norm(self.inner.conv(x))).mean((2, 3))
        return self.inner.head(-50 * acts if rough else acts)


class Failing(Rough):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected Float but found BFloat16")
        return super().forward(x)


def rebuilt(classifier, kind: type[nn.Module]):
    return dataclasses.replace(classifier, model=kind(classifier.model).eval(), head_name="inner.head")


def test_auto_stays_exact_where_predictions_differ(classifier, probe, monkeypatch) -> None:
    monkeypatch.setattr(precision, "measure_gain", lambda *_: pytest.fail("nothing is to be timed"))
    chosen = choose_precision(rebuilt(classifier, Rough), "auto", CPU, probe)
    assert chosen.name == "fp32"
    assert chosen.agreement < precision.LEAST_AGREEMENT
    assert chosen.describe().startswith("activations were computed in float32; in bfloat16 ")


def test_bf16_that_is_requested_is_taken_and_compared(classifier, probe) -> None:
    chosen = choose_precision(rebuilt(classifier, Rough), "bf16", CPU, probe)
    assert chosen.name == "bf16"
    assert chosen.agreement < precision.LEAST_AGREEMENT
    assert chosen.gain is None
    assert chosen.describe().startswith("activations were computed in bfloat16: ")


def test_a_network_that_knows_no_bf16(classifier, probe) -> None:
    assert choose_precision(rebuilt(classifier, Failing), "auto", CPU, probe) == Precision("fp32")
    with pytest.raises(RuntimeError, match="BFloat16"):
        choose_precision(rebuilt(classifier, Failing), "bf16", CPU, probe)


def test_what_is_probed(classifier, monkeypatch) -> None:
    monkeypatch.setattr(precision, "has_bf16_units", lambda: True)
    work = 8 * 8 * 5 * 27 + 15  # the tiny network's multiply-adds
    long = int(precision.LEAST_WORK / work) + 1
    assert needs_probe(classifier, "auto", CPU, long)
    assert not needs_probe(classifier, "auto", CPU, long // 2)  # a short pass stays exact
    assert not needs_probe(classifier, "fp32", CPU, long)
    assert needs_probe(classifier, "bf16", CPU, 1)
    assert not needs_probe(classifier, "auto", torch.device("cuda"), long)
    monkeypatch.setattr(precision, "has_bf16_units", lambda: False)
    assert not needs_probe(classifier, "auto", CPU, long)


def test_gain_is_measured_both_ways_in_turn() -> None:
    called = []
    matrix = torch.ones(32, 32)

    def run() -> None:
        called.append((matrix @ matrix).dtype)

    assert precision.measure_gain(run, rounds=2) > 0
    assert called == [torch.float32, torch.bfloat16] * 2


def test_the_choice_is_remembered(classifier, imageset, tmp_path, units, monkeypatch) -> None:
    monkeypatch.setattr(precision, "measure_gain", lambda *_: 2.0)
    settings = ExtractSettings(batch_size=7, cache_dir=tmp_path / "cache")
    first = extract(classifier, imageset, settings)
    assert first.precision == Precision("bf16", 1.0, 60, 2.0)
    (file,) = settings.cache_dir.glob("*.choice")
    assert json.loads(file.read_text())["name"] == "bf16"
    monkeypatch.setattr(precision, "measure_gain", lambda *_: 0.5)
    again = extract(classifier, imageset, settings)
    assert (again.precision, again.key, again.from_cache) == (first.precision, first.key, True)
    file.write_text("damaged")
    measured = extract(classifier, imageset, settings)
    assert measured.precision == Precision("fp32", 1.0, 60, 0.5)
    assert measured.key != first.key
