"""The gate at the end of an audit: judged when the numbers are there, refused when they cannot be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from quick_audits import ONE_SEED

QUICK = [*ONE_SEED, "--format", "html,json", "--quiet"]
N_CLASSES, N = 4, 160

pytestmark = pytest.mark.slow


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``arrays(name, order)``: activations of four classes, and a head whose rows are in this order."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, order: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(N_CLASSES), N)
        acts = (rng.random((len(labels), 8)) + 1.5 * np.eye(8)[labels]).astype(np.float32)
        weight = np.eye(N_CLASSES, 8, dtype=np.float32)[list(order)]
        np.savez(tmp_path / name, acts=acts, labels=labels, weight=weight, bias=np.zeros(N_CLASSES, np.float32))
        return tmp_path / name

    return make


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "salve-policy.toml"
    file.write_text("min_alpha_hat = 0.001\nrequire_autoencoder = false\n")
    return file


@pytest.mark.parametrize("order", [(1, 2, 0, 3), (1, 2, 3, 0)])
def test_wrong_rows_of_the_head_are_2_everywhere_alike(
    salve: Callable, arrays: Callable, policy: Path, order: tuple[int, ...]
) -> None:
    """Three classes swapped, and all of them cycled, which leaves accuracy at chance."""
    done = salve(arrays("swapped.npz", order), *QUICK, "--policy", policy, "--out", "out")
    assert done.code == 2
    assert "): NOT JUDGED\n" in done.out
    assert "passed" not in done.out
    assert "classes are probably mapped to the wrong outputs" in done.err
    audit = json.loads(Path("out/audit.json").read_text())
    verdict = audit["verdict"]
    assert verdict["passed"] is None
    (place,) = audit["distrust"]
    assert "probably mapped to the wrong outputs" in audit["notes"][place]
    assert any("probably mapped to the wrong outputs" in problem for problem in verdict["problems"])
    report = Path("out/report.html").read_text()
    assert ">Not judged</p>" in report
    assert "classes are probably mapped to the wrong outputs" in report
    assert salve("gate", "out").code == 2


def test_a_noised_convolution_is_2(salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path) -> None:
    """Most images of most classes are misclassified: too few are right for a limit on these classes to be judged."""
    content = torch.load(colour_model, weights_only=True)
    weight = content["state_dict"]["conv1.0.weight"]
    weight += 3 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    torch.save(content, tmp_path / "noised.pt")
    options = [*QUICK, "--evidence", "off", "--out", tmp_path / "out", "--fail-under", "0.001"]
    done = salve(tmp_path / "noised.pt", colour_data, *options)
    assert (done.code, "passed" in done.out) == (2, False), done.out
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert sum(part["n_correct"] < 30 for part in audit["classes"]) >= 2
    assert audit["verdict"]["passed"] is None
    assert salve("gate", tmp_path / "out").code == 2


def test_an_autoencoder_that_loses_accuracy_is_2(salve: Callable, arrays: Callable, tmp_path: Path) -> None:
    options = [*QUICK, "--n-latents", "2", "--out", "out"]
    done = salve(arrays("good.npz"), *options, "--fail-under", "0.001")
    assert (done.code, "passed" in done.out) == (2, False), done.out
    audit = json.loads(Path("out/audit.json").read_text())
    assert audit["sae"]["accuracy_reconstructed"] < 0.9 * audit["sae"]["accuracy_original"]
    said = "rest on an autoencoder that misses its own goal"
    assert any(said in problem for problem in audit["verdict"]["problems"])
    assert said in Path("out/report.html").read_text()
    again = salve("gate", "out")
    assert (again.code, said in again.out) == (2, True)


def test_a_finished_audit_is_judged_and_a_later_failure_makes_it_stale(
    salve: Callable, arrays: Callable, policy: Path
) -> None:
    good = arrays("good.npz")
    done = salve(good, *QUICK, "--policy", policy, "--out", "out")
    assert done.code == 0, done.err
    assert "gate (alpha_hat flip median at least 0.001): passed\n" in done.out
    assert salve("gate", "out", "--model", good).code == 0
    assert salve("gone.pt", "data", *QUICK, "--out", "out").code == 2
    stale = salve("gate", "out")
    assert (stale.code, "are stale: an audit of gone.pt" in stale.out) == (2, True)
    assert salve(good, *QUICK, "--policy", policy, "--out", "out").code == 0
    assert not Path("out/stale.txt").exists()
    assert salve("gate", "out").code == 0


def test_the_baseline_is_compared_image_by_image(salve: Callable, arrays: Callable, policy: Path) -> None:
    good = arrays("good.npz")
    assert salve(good, *QUICK, "--out", "main").code == 0
    policy.write_text(policy.read_text() + 'baseline = "main"\nmax_drop = { accuracy = 0.02, alpha_hat = 0.5 }\n')
    done = salve(good, *QUICK, "--policy", policy, "--out", "out")
    assert done.code == 0, done.out
    verdict = json.loads(Path("out/audit.json").read_text())["verdict"]
    losses = [rule for rule in verdict["rules"] if rule["key"] == "max_drop.accuracy"]
    assert len(losses) == N_CLASSES + 1  # and of all images
    assert {rule["value"] for rule in losses} == {0.0}
    assert salve("gate", "out", "--policy", policy).code == 0
    assert salve("gate", "out").code == 0  # the saved policy names the baseline, too
    compared = salve("compare", "main", "out")
    assert compared.code == 0, compared.err
    assert not {"newly fragile", "fixed", "*"} & set(
        " ".join(compared.out.split("* beyond chance")[0].split("  ")).split()
    )
    Path("main/audit.json").unlink()
    gone = salve(good, *QUICK, "--policy", policy, "--out", "out")
    assert (gone.code, "main/audit.json: No such file" in gone.err) == (2, True)


def test_a_wrong_policy_stops_before_the_work(salve: Callable, arrays: Callable, policy: Path) -> None:
    policy.write_text("min_alpha = 1\n")
    done = salve(arrays("good.npz"), *QUICK, "--policy", policy, "--out", "out")
    assert done.code == 2
    assert f"error: {policy}: unknown key 'min_alpha' in 'min_alpha' (line 1)" in done.err
    assert not Path("out").exists()
