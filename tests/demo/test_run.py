from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import load_image

from salve_audit.activations.fingerprint import compute_fingerprint
from salve_audit.demo.run import DemoSettings, run_demo
from salve_audit.demo.training import NetworkRecipe
from salve_audit.errors import OutputError, UsageError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.transform import build_transform
from salve_audit.results import AuditResult, load_audit
from salve_audit.sae.files import read_sae

pytestmark = pytest.mark.slow

SMALL = {"n_train": 120, "n_val": 40, "seed": 4, "recipe": NetworkRecipe(epochs=6), "format": ("json",)}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditResult]:
    out = tmp_path_factory.mktemp("demo") / "report"
    before = torch.get_num_threads()
    result = run_demo(DemoSettings(out, **SMALL))
    assert torch.get_num_threads() == before
    return out, result


def test_leaves_the_report_and_the_world(audited: tuple[Path, AuditResult]) -> None:
    out, result = audited
    assert {path.name for path in out.iterdir()} == {
        "audit.json",
        "concepts.safetensors",
        "samples.parquet",
        "sae.safetensors",
        "world",
    }
    assert {path.name for path in (out / "world").iterdir()} == {"data", "model.pt", "truth.json"}
    assert len(list((out / "world" / "data" / "val").rglob("*.png"))) == 8 * 40
    assert [path.name for path in out.parent.iterdir()] == ["report"]
    assert load_audit(out) == result
    assert result.demo is not None


def test_truth_and_audit_are_of_the_same_images(audited: tuple[Path, AuditResult]) -> None:
    """Accuracies measured in memory and from the files through the product's own pass are the same numbers."""
    out, result = audited
    truth = json.loads((out / "world" / "truth.json").read_text())
    records = {records.name: records for records in result.classes}
    for class_record in truth["truth"]:
        assert records[class_record["class_name"]].accuracy == pytest.approx(class_record["accuracy"], abs=1e-9)
        assert records[class_record["class_name"]].n == class_record["n"] == 40
    assert np.mean([class_record["accuracy"] for class_record in truth["truth"]]) > 0.7


def test_reports_what_was_planted(audited: tuple[Path, AuditResult]) -> None:
    out, result = audited
    assert result.demo is not None
    truth = {
        class_record["class_name"]: class_record
        for class_record in json.loads((out / "world" / "truth.json").read_text())["truth"]
    }
    for class_record in result.demo.classes:
        assert {cue: class_record.true_drop[cue] for cue in class_record.cues} == truth[class_record.class_name][
            "drops"
        ]
        assert class_record.largest_drop == max(truth[class_record.class_name]["drops"].values(), default=0.0)
    assert {class_record.class_name for class_record in result.demo.classes if not class_record.cues} == {"plain"}
    assert all(correlation.n <= 7 for correlation in result.demo.correlations)
    assert "alpha_hat_flip" in {correlation.statistic for correlation in result.demo.correlations}


def test_the_dominant_latent_fires_on_its_class(audited: tuple[Path, AuditResult]) -> None:
    _, result = audited
    assert result.demo is not None
    assert min(class_record.dominant_auroc for class_record in result.demo.classes) > 0.7
    assert np.median([class_record.dominant_auroc for class_record in result.demo.classes]) > 0.9


def test_firing_is_recomputed_from_the_files(audited: tuple[Path, AuditResult]) -> None:
    """AUROC of each dominant latent from sae.safetensors and a forward pass of our own."""
    out, result = audited
    assert result.demo is not None
    classifier = load_classifier(out / "world" / "model.pt")
    images = load_images(out / "world" / "data", seed=4)
    transform, sae = build_transform(classifier.transform), read_sae(out / "sae.safetensors")
    splits = {}
    for name, split in (("fit", images.fit), ("audit", images.audit)):
        batch = torch.stack([transform(load_image(images.root / path)) for path in split.paths])
        with torch.inference_mode():
            acts = classifier.model.forward_head(classifier.model.forward_features(batch), pre_logits=True)
        splits[name] = sae.encode(acts.numpy()), np.array(split.labels)
    (fit_codes, fit_labels), (codes, labels) = splits["fit"], splits["audit"]
    for index, class_record in enumerate(result.demo.classes):
        fires = codes[:, class_record.dominant_feature] * np.sign(
            fit_codes[fit_labels == index, class_record.dominant_feature].mean()
        )
        pairs = np.sign(fires[labels == index][:, None] - fires[labels != index][None]) / 2 + 0.5
        assert class_record.dominant_auroc == pytest.approx(pairs.mean(), abs=1e-3)


def test_the_world_can_be_audited_again_by_hand(audited: tuple[Path, AuditResult]) -> None:
    """What lies in world/ is what was audited, to the byte."""
    out, result = audited
    classifier = load_classifier(out / "world" / "model.pt")
    images = load_images(out / "world" / "data", seed=4)
    assert classifier.sha256 == result.provenance.model_sha256
    assert compute_fingerprint(classifier, images, "fp32").data_sha256 == result.provenance.data_sha256
    assert (len(images.fit.labels), len(images.audit.labels)) == (result.data.n_fit, result.data.n_audit)


def test_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not an earlier demo's"):
        run_demo(DemoSettings(tmp_path, **SMALL))
    assert [path.name for path in tmp_path.rglob("*")] == ["world", "thesis.txt"]


def test_leaves_nothing_when_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> AuditResult:
        raise KeyboardInterrupt

    monkeypatch.setattr("salve_audit.demo.run.run_audit", interrupted)
    tiny = {"n_train": 4, "n_val": 2, "recipe": NetworkRecipe(epochs=1)}
    with pytest.raises(KeyboardInterrupt):
        run_demo(DemoSettings(tmp_path / "new", **tiny))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "value"), [("seed", -1), ("n_train", 0), ("n_val", 0)])
def test_refuses_nonsense(key: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"{key}: {value} is below"):
        DemoSettings("out", **{key: value})
