"""Results as people work with them: tables, charts, a notebook's view, the folder, verdicts and comparisons."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from checkpoint_files import draw, save
from live_world import NAMES, QUICK, World
from PIL import Image

import salve_audit
from salve_audit import AuditConfig, AuditResult, compare, judge, load_audit, run_audit
from salve_audit.errors import ResultError, SalveError, UsageError
from salve_audit.results.digest import is_sealed
from salve_audit.results.view import rank_classes


def test_a_result_shows_itself_briefly(audited: AuditResult) -> None:
    lines = repr(audited).splitlines()
    assert lines[0] == "<AuditResult of Tiny: 3 classes, 96 images, accuracy 100.0%>"
    assert lines[1].startswith(f"  {rank_classes(audited.classes)[0].name}: accuracy 100%, image reliance ")
    assert lines[-1] == "  verdict: no policy"
    shown = audited._repr_html_()
    assert shown.count("<tr>") == 4
    assert all(name in shown for name in NAMES)


def test_a_notebook_gets_little_whatever_was_audited(audited: AuditResult) -> None:
    hostile = dataclasses.replace(audited.classes[0], name="</td><script>alert(1)</script>" * 40)
    many = tuple(dataclasses.replace(hostile, index=index) for index in range(1000))
    shown = dataclasses.replace(audited, classes=many)._repr_html_()
    assert len(shown) < 50_000
    assert "<script>" not in shown
    assert "The 980 other classes" in shown
    assert len(repr(dataclasses.replace(audited, classes=many))) < 6000


def test_a_class_is_found_by_its_name(audited: AuditResult) -> None:
    assert audited["dog"] is audited.classes[1]
    assert ("dog" in audited, "cat" in audited) == (True, False)
    assert [record.name for record in audited] == NAMES
    with pytest.raises(UsageError, match="'castel': is no class with audit images") as raised:
        audited["castel"]
    assert raised.value.hint == "nearest: castle"
    assert rank_classes(audited.classes)[0].image_reliance.reliance == max(
        record.image_reliance.reliance for record in audited
    )


def test_tables_hold_the_numbers_of_the_result(audited: AuditResult) -> None:
    frame = audited.to_frame()
    assert list(frame.index) == NAMES
    for record in audited.classes:
        row = frame.loc[record.name]
        assert (row["n"], row["accuracy"]) == (record.n, record.accuracy)
        assert row["image_reliance_high"] == record.image_reliance.high
        assert row["alpha_hat"] == record.alpha_hat.flip.median or pd.isna(row["alpha_hat"])
    samples = audited.samples
    assert len(samples) == 96
    assert samples["correct"].mean() == audited.counts[1] / audited.counts[0]


def test_a_class_is_plotted_on_given_axes_or_new_ones(audited: AuditResult, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = audited["castle"].plot()
    assert axes.get_ylabel() == "accuracy"
    assert audited["dog"].plot(axes) is axes
    odd = dataclasses.replace(audited["dog"], name="_$x^2$")
    odd.plot().figure.canvas.draw()
    pyplot.close("all")
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="needs matplotlib") as raised:
        audited["dog"].plot()
    assert raised.value.hint == "pip install 'salve-audit[plot]'"


def test_the_folder_is_that_of_the_command_line(audited: AuditResult, saved: Path, tmp_path: Path) -> None:
    names = {"audit.json", "samples.parquet", "sae.safetensors", "concepts.safetensors"}
    assert {file.name for file in saved.iterdir()} == names
    text = (saved / "audit.json").read_text(encoding="utf-8")
    assert is_sealed(text, json.loads(text))
    loaded = load_audit(saved)
    assert loaded == audited
    assert loaded.samples.equals(audited.samples)
    assert {file.name for file in loaded.save(tmp_path / "copy").iterdir()} == names
    assert pickle.loads(pickle.dumps(audited)) == audited
    with pytest.raises(UsageError, match="'doc' is not one of html, pdf, json"):
        audited.save(tmp_path / "x", format=["doc"])
    with pytest.raises(ResultError, match="the files beside it are not at hand"):
        _ = dataclasses.replace(audited).samples


def test_out_writes_at_once_and_run_audit_gives_the_same_kind_of_result(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = {**QUICK, "out": out, "format": ("json",), "keep_activations": True, "classes": NAMES}
    result = salve_audit.audit_model(world.model, world.train, world.val, name="mine", **settings)
    assert (result.model.name, load_audit(out) == result) == ("mine", True)
    again = run_audit(AuditConfig(model=out / "activations.safetensors", sae="linear-l1", sae_seeds=1, use_cache=False))
    assert again["dog"].accuracy == result["dog"].accuracy
    assert len(again.samples) == 96


def test_a_checkpoint_that_was_audited_from_its_file_goes_with_its_module(world: World, tmp_path: Path) -> None:
    for part, (images, labels) in (("train", world.train), ("val", world.val)):
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            folder = tmp_path / "data" / part / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * image.permute(1, 2, 0)).byte().numpy()).save(folder / f"{index}.png")
    model, size = draw("resnet10t"), {"input_size": [3, 32, 32], "mean": [0, 0, 0], "std": [1, 1, 1]}
    save(
        {"state_dict": model.state_dict(), "args": {"model": "resnet10t", "num_classes": 3, **size}}, tmp_path / "m.pt"
    )
    settings = {key: value for key, value in QUICK.items() if key != "sae"}
    config = AuditConfig(model=tmp_path / "m.pt", data=tmp_path / "data", sae="linear-l1", **settings)
    result = run_audit(config)
    saved = load_audit(result.save(tmp_path / "out", format="json"))
    for audit in (result, saved):
        edited = salve_audit.apply_edit(model, audit, "castle", alpha_hat=0.5)
        changed = [name for name, own in edited.state_dict().items() if not own.equal(model.state_dict()[name])]
        assert changed == ["fc.weight"]
    images = torch.rand(2, 3, 32, 32)
    assert salve_audit.heat_map(model, images, 0, result=saved).shape == (2, 32, 32)
    (shown,) = salve_audit.explain(tmp_path / "m.pt", tmp_path / "data" / "val" / "dog" / "1.png", saved, device="cpu")
    assert len(shown.scores) == 3
    with pytest.raises(UsageError, match="result: has to be saved to go with a checkpoint"):
        salve_audit.explain(tmp_path / "m.pt", "x.png", result)


def test_an_audit_is_judged_in_memory_and_saved(audited: AuditResult, saved: Path) -> None:
    for audit in (audited, saved, str(saved / "audit.json"), load_audit(saved)):
        assert judge(audit, max_image_reliance=1.0).passed is True
        assert judge(audit, max_image_reliance=0.2).passed is False
    assert judge(audited, {"max_image_reliance": 0.2}, fail_over_reliance=1.0).passed is False
    assert judge(audited, max_global_factor={"border": 1.0}).passed is True
    assert judge(audited, max_drop={"accuracy": 0.05}, baseline=audited).passed is True
    assert "image reliance" in judge(audited, max_image_reliance=0.2)._repr_markdown_()


def test_a_changed_file_is_not_trusted(audited: AuditResult, tmp_path: Path) -> None:
    file = audited.save(tmp_path / "out", format="json") / "audit.json"
    file.write_text(file.read_text().replace('"n": 32', '"n": 33', 1))
    assert judge(tmp_path / "out", max_image_reliance=1.0).passed is None


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_image_relianc": 0.5}, "max_image_relianc: is no limit"),
        ({"max_image_reliance": 1.5}, "max_image_reliance: 1.5 is not between 0 and 1"),
        ({"max_image_reliance": "0.5"}, "max_image_reliance: expected a number, got str"),
        ({}, "audit.json: was audited without a limit"),
    ],
)
def test_a_wrong_limit_is_one_clear_error(limits: dict[str, Any], message: str, audited: AuditResult) -> None:
    with pytest.raises(SalveError) as raised:
        judge(audited, **limits)
    assert str(raised.value).startswith(message)


def test_audits_in_memory_and_saved_are_compared(audited: AuditResult, saved: Path, world: World) -> None:
    same = compare(audited, saved)
    assert same.pairing.startswith("Accuracies, flip medians and image reliance are compared image by image")
    assert not same.to_frame()[["accuracy_shown", "image_reliance_shown"]].to_numpy().any()
    assert "castle" in same._repr_html_()
    worse = copy.deepcopy(world.model)
    worse.fc.weight.data[0] -= 2
    worse.fc.bias.data[0] -= 5
    broken = salve_audit.audit_model(worse, world.train, world.val, classes=NAMES, **QUICK)
    row = compare(saved, broken).to_frame().loc["castle"]
    assert (row["accuracy_new"], row["accuracy_change"], bool(row["accuracy_shown"])) == (0.0, -1.0, True)
    other = salve_audit.audit_model(world.model, world.val, world.train, classes=NAMES, **QUICK)
    with pytest.raises(ResultError, match="the audited data are others"):
        compare(audited, other)
    assert compare(audited, other, allow_mismatch="data").mismatches
    with pytest.raises(UsageError, match="new: expected a result or a path, got dict"):
        compare(audited, {})
