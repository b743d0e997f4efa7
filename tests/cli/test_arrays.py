"""Audits without a model: files of arrays through the command line, good and bad."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from salve_audit import load_audit, thresholds

pytestmark = pytest.mark.slow

OF_IMAGES = ["removed", "lost"]  # columns that only images fill
QUICK = ("--n-latents", "8", "--sae", "paper", "--interventions", "salve", "--quiet")
K, D, N = 3, 8, 120


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Three classes of ReLU activations around their weights, as from any framework."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(K, D))
    labels = rng.integers(0, K, N)
    acts = np.maximum(0, 2 * weight[labels] + rng.normal(size=(N, D)))
    return {"acts": acts, "labels": labels, "weight": weight, "bias": rng.normal(size=K) / 10}


def in_two_parts(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = {"weight": "head_weight", "bias": "head_bias"}
    parts = {new: arrays[old] for old, new in names.items() if old in arrays}
    for name in ("acts", "labels"):
        parts |= {f"fit_{name}": arrays[name][:70], f"audit_{name}": arrays[name][70:]}
    return parts


def write(path: Path, arrays: dict[str, Any], **metadata: str) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, path, metadata or None)
    return path


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_one_set_is_split_and_audited(salve: Callable, arrays: dict, tmp_path: Path, ending: str) -> None:
    path, out = write(tmp_path / f"acts{ending}", arrays), tmp_path / "out"
    done = salve(path, "--out", out, "--keep-activations", "--format", "html,json", *QUICK)
    assert done.code == 0, done.err
    result, saved = load_audit(out), load_file(out / "activations.safetensors")
    assert (result.model.architecture, result.model.d, result.model.n_classes) == ("none (arrays)", D, K)
    assert (result.model.head_error, result.model.transform) == (None, None)
    counts = np.bincount(arrays["labels"])
    assert np.bincount(saved["fit_labels"]).tolist() == [round(0.6 * n) for n in counts]
    both = np.concatenate([saved["fit_acts"], saved["audit_acts"]])
    given = arrays["acts"].astype(np.float32)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, given.tolist()))  # every sample is used once
    page = (out / "report.html").read_text()
    assert "there is no model to verify it on" in page
    assert "none: activations were given, no images" in page


def test_a_sample_is_told_wherever_intervals_are(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    path, cache = write(tmp_path / "acts.npz", arrays), tmp_path / "cache"
    told = "a stratified sample of 61 of 120 images: intervals are those of the sample"
    for name, is_recalled in (("first", False), ("again", True)):
        out = tmp_path / name
        done = salve(path, "--out", out, "--format", "html,json", "--sample", 60, "--cache", cache, "-v", *QUICK[:-1])
        assert ("recalled" in done.err or "measured before" in done.err) is is_recalled
        assert done.out.count(told) == 1, done.out
        data = load_audit(out).data
        assert (data.n_fit + data.n_audit, data.sampled_from) == (61, 120)
        assert (out / "report.html").read_text().count("all intervals are those of the sample") >= 1
        assert [note for note in load_audit(out).notes if note.startswith("A stratified sample was audited, 61 of 120")]
    done = salve(path, "--out", tmp_path / "whole", "--format", "json", "--cache", cache, *QUICK)
    assert "stratified" not in done.out
    whole = load_audit(tmp_path / "whole").data
    assert (whole.n_fit + whole.n_audit, whole.sampled_from) == (120, None)


LIMITS = {  # what every stage takes a part of its images or classes for: as if these were far too many
    "audit.stages.MOST_COMPARED": 20.0 * (K + D),
    "reliance.assess.SEED_BUDGET": 15 * 2.0 * K * D,
    "reliance.effects.SCREENING_BUDGET": 1.0,
    "reliance.summary.CURVE_BUDGET": 0.0,
    "reliance.switches.BUDGET": 1.0 * (N - 70) * K * D,
    "interventions.plan.FULL_PRODUCTS": 1.0,
    "interventions.plan.CHOICE_PRODUCTS": 1.0,
    "interventions.samples.MOST_VALUES": 8,
    "interventions.samples.THINNED_VALUES": 8,
    "interventions.samples.SINGLE_VALUES": 16,
    "stress.population.MAX_WORK": 1.0,
    "stress.stage.SWEEP_BUDGET": 1.0,
    "stress.stage.COMPOSITION_BUDGET": 1.0,
}


@pytest.mark.parametrize("name", ["audit.stages.MOST_COMPARED", "all"])
def test_a_set_beyond_a_budget_is_audited_in_part(
    salve: Callable, arrays: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arrays = in_two_parts(arrays)
    path, options = write(tmp_path / "acts.npz", arrays), ("--format", "html,json", "--n-latents", "8", "--no-cache")
    for each in LIMITS if name == "all" else (name,):
        monkeypatch.setattr(f"salve_audit.{each}", LIMITS[each])
    done = salve(path, "--out", tmp_path / "out", "--sae-seeds", 2, *options)
    assert done.code == 0, done.err
    result = load_audit(tmp_path / "out")
    assert [record.n for record in result.classes] == np.bincount(arrays["audit_labels"]).tolist()
    images = [image for feature in result.features if feature.sweep for image in feature.sweep.images]
    rows = [int(image.path.removeprefix("audit_acts[").rstrip("]")) for image in images]
    names = [result.classes[label].name for label in arrays["audit_labels"][rows]]
    assert max(rows) > 20
    assert [image.class_name for image in images] == names
    assert result.suppression is not None
    assert (len(result.suppression.traces) == 1) == (name == "all")
    noted = any(f"compared on 20 of the {N - 70} images" in note for note in result.notes)
    assert noted == (name in ("all", "audit.stages.MOST_COMPARED"))


def test_every_threshold_is_that_of_the_arrays(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    path, out = write(tmp_path / "acts.npz", in_two_parts(arrays)), tmp_path / "out"
    done = salve(path, "--out", out, "--format", "json", *QUICK)
    assert done.code == 0, done.err
    result, table = load_audit(out), pd.read_parquet(out / "samples.parquet")
    dictionary = load_file(out / "sae.safetensors")["dictionary"]
    assert table.path.tolist() == [f"audit_acts[{row}]" for row in range(N - 70)]
    for record in result.classes:
        rows = arrays["labels"][70:] == record.index
        coupling = np.abs(dictionary[record.dominant_feature].astype(np.float64))
        acts, weight, bias = (arrays[name].astype(np.float32) for name in ("acts", "weight", "bias"))
        expected_thresholds = thresholds(acts[70:][rows], weight, bias, coupling, record.index)
        np.testing.assert_allclose(table.alpha_flip[rows], expected_thresholds.flip, rtol=1e-9)
        assert record.n_correct == int(expected_thresholds.correct.sum())


def test_what_an_audit_keeps_gives_the_same_audit_again(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    """The promise behind --keep-activations: anyone can recompute every number."""
    first_out, second_out = tmp_path / "one", tmp_path / "two"
    options = ("--format", "json", "--limit", "16", "--no-cache", *QUICK)
    assert salve(colour_model, colour_data, "--out", first_out, "--keep-activations", *options).code == 0
    done = salve(first_out / "activations.safetensors", "--out", second_out, "--format", "json", *QUICK)
    assert done.code == 0, done.err
    first, again = load_audit(first_out), load_audit(second_out)
    assert any(record.image_reliance is not None for record in first.classes)  # only images tell that
    assert again.classes == tuple(dataclasses.replace(record, image_reliance=None) for record in first.classes)
    assert again.features == first.features
    assert again.interventions == first.interventions
    assert dataclasses.replace(again.sae) == first.sae
    samples = [pd.read_parquet(out / "samples.parquet").drop(columns=OF_IMAGES) for out in (first_out, second_out)]
    pd.testing.assert_frame_equal(*samples)


def test_kept_activations_are_the_same_bytes_every_time(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    path = write(tmp_path / "acts.npz", arrays)
    for name in ("one", "two"):
        assert salve(path, "--out", tmp_path / name, "--keep-activations", "--format", "json", *QUICK).code == 0
    first, second = ((tmp_path / name / "activations.safetensors").read_bytes() for name in ("one", "two"))
    assert first == second


def test_names_come_with_the_arrays(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    names = {"class_names": np.array(["cat", "dog", "owl"]), "paths": np.array([f"text {i}" for i in range(N)])}
    text = {name: json.dumps(values.tolist()) for name, values in names.items()}
    files = [
        write(tmp_path / "a.npz", {**arrays, **names}),
        write(tmp_path / "b.safetensors", arrays, **text),
    ]
    for path in files:
        done = salve(path, "--out", tmp_path / path.stem, "--format", "json", *QUICK)
        assert done.code == 0, done.err
        assert [record.name for record in load_audit(tmp_path / path.stem).classes] == ["cat", "dog", "owl"]
        assert set(pd.read_parquet(tmp_path / path.stem / "samples.parquet").path) <= set(names["paths"])


def test_no_bias_and_half_precision_and_a_limit(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    del arrays["bias"]
    arrays["acts"] = arrays["acts"].astype(np.float16)
    path, out = write(tmp_path / "acts.npz", arrays), tmp_path / "out"
    done = salve(path, "--out", out, "--limit", "9", "--keep-activations", "--format", "json", *QUICK)
    assert done.code == 0, done.err
    saved = load_file(out / "activations.safetensors")
    assert not saved["head_bias"].any()
    assert np.bincount(saved["audit_labels"]).tolist() == [9] * K
    assert "at most 9 samples per class and part" in load_audit(out).data.layout


def test_one_output_is_folded(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    arrays |= {"weight": arrays["weight"][:1], "bias": arrays["bias"][:1], "labels": arrays["labels"] == 0}
    out = tmp_path / "out"
    done = salve(write(tmp_path / "acts.npz", arrays), "--out", out, "--keep-activations", "--format", "json", *QUICK)
    assert done.code == 0, done.err
    saved = load_file(out / "activations.safetensors")
    np.testing.assert_array_equal(
        saved["head_weight"], np.float32([[-0.5], [0.5]]) * arrays["weight"].astype(np.float32)
    )
    assert any("one output" in note for note in load_audit(out).notes)


def test_labels_that_do_not_exclude_each_other(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    present = arrays["acts"].astype(np.float32) @ arrays["weight"].T + arrays["bias"] > 0
    path = write(tmp_path / "acts.npz", {**arrays, "labels": present, "class_names": np.array(["a", "b", "c"])})
    refused = salve(path, "--out", tmp_path / "out", *QUICK)
    assert refused.code == 2
    assert "the 3 outputs of acts.npz do not exclude each other" in refused.err
    assert "hint: --label NAME, one of: a, b, c" in refused.err
    done = salve(path, "--label", "b", "--out", tmp_path / "out", "--format", "json", *QUICK)
    assert done.code == 0, done.err
    result = load_audit(tmp_path / "out")
    assert [record.name for record in result.classes] == ["not b", "b"]
    # the labels are the head's own decisions
    assert [record.accuracy for record in result.classes] == [1.0, 1.0]
    assert sum(record.n for record in result.classes) == result.data.n_audit
    assert result.classes[1].n == pytest.approx(0.4 * present[:, 1].sum(), abs=1)


def change(**new: Any) -> Callable[[dict], dict]:
    return lambda arrays: {name: v for name, v in {**arrays, **new}.items() if v is not None}


def spoil(name: str, value: float) -> Callable[[dict], dict]:
    def work(arrays: dict) -> dict:
        array = arrays[name].astype(np.float64)
        array.flat[5 if array.size > 5 else 0] = value
        return {**arrays, name: array}

    return work


BAD = [
    (change(acts=None), "has no activations (arrays: labels, weight, bias)"),
    (change(labels=None), "has no array 'labels'"),
    (change(weight=None), "has no array 'weight' or 'head_weight'"),
    (lambda a: {**a, "acts": a["acts"][0]}, "array 'acts' (float64 (8,)): expected 2 axes (samples x activations)"),
    (lambda a: {**a, "acts": a["acts"][:0]}, "array 'acts' (float64 (0, 8)): is empty"),
    (lambda a: {**a, "acts": a["acts"][:, :5]}, "array 'acts' (float64 (120, 5)): has 5 activations a sample"),
    (lambda a: {**a, "weight": a["weight"].T}, "array 'weight' (float64 (8, 3)): looks transposed"),
    (lambda a: {**a, "weight": a["weight"][:, :0]}, "array 'weight' (float64 (3, 0)): is empty"),
    (lambda a: {**a, "acts": a["acts"].astype(complex)}, "array 'acts' (complex128 (120, 8)): expected floating-point"),
    (lambda a: {**a, "acts": a["acts"].astype(str)}, "expected floating-point numbers"),
    (spoil("acts", np.nan), "array 'acts' (float64 (120, 8)): has NaN, the first at [0, 5]"),
    (spoil("acts", 1e300), "array 'acts' (float64 (120, 8)): has infinite values, the first at [0, 5]"),
    (spoil("weight", np.inf), "array 'weight' (float64 (3, 8)): has infinite values"),
    (spoil("bias", np.nan), "array 'bias' (float64 (3,)): has NaN"),
    (lambda a: {**a, "bias": a["bias"][:2]}, "array 'bias' (float64 (2,)): expected (3,)"),
    (lambda a: {**a, "labels": a["labels"][:9]}, "array 'labels' (int64 (9,)): expected (120,)"),
    (lambda a: {**a, "labels": a["labels"] + 1}, "label 3 at ["),
    (lambda a: {**a, "labels": a["labels"] - 1}, "label -1 at ["),
    (lambda a: {**a, "labels": a["labels"] / 2.0}, "array 'labels' (float64 (120,)): expected whole numbers"),
    (lambda a: {**a, "labels": a["labels"] * 0}, "one class only (0), an audit needs two or more"),
    (lambda a: {**a, "labels": np.r_[2, a["labels"][1:] % 2]}, "class 2 has one sample, too few for two parts"),
    (change(class_names=np.array(["a", "b"])), "array 'class_names' (<U1 (2,)): expected (3,)"),
    (change(class_names=np.array(["a", "b", "a"])), "the name 'a' is there twice"),
    (change(class_names=np.arange(3)), "array 'class_names' (int64 (3,)): expected text"),
    (change(paths=np.array(["a"])), "array 'paths' (<U1 (1,)): expected (120,)"),
    (
        lambda a: {**in_two_parts(a), "audit_labels": in_two_parts(a)["audit_labels"] % 2},
        "class 2 is in fit_labels but",
    ),
    (lambda a: {k: v for k, v in in_two_parts(a).items() if k != "fit_acts"}, "has no array 'fit_acts'"),
]


@pytest.mark.parametrize(("spoiled", "why"), BAD)
def test_bad_arrays_name_file_array_type_and_shape(
    salve: Callable, arrays: dict, tmp_path: Path, spoiled: Callable, why: str
) -> None:
    done = salve(write(tmp_path / "acts.npz", spoiled(arrays)), "--out", tmp_path / "out", *QUICK)
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert f"{tmp_path / 'acts.npz'}: " in line
    assert why in line
    assert not (tmp_path / "out").exists()


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def objects(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, archive.open("bias.npy", "w") as member:
        np.lib.format.write_array(member, np.array([Evil()], dtype=object), allow_pickle=True)


def bomb(path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (65 << 22, 1)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("acts.npy", "w", force_zip64=True) as out,
    ):
        out.write(header.getvalue())
        block = bytes(1 << 24)
        for _ in range(65):
            out.write(block)


def boast(path: Path) -> None:
    """A header that claims terabytes, to have them allocated."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 8)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("acts.npy", header.getvalue() + bytes(64))


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (objects, "array 'bias' holds Python objects, which need code to be read"),
        (bomb, "array 'acts' unpacks from"),
        (boast, "array 'acts' says it is float64 (1000000000000, 8), but has 64 bytes"),
        (lambda path: path.write_bytes(b""), "is damaged or no .npz file"),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), "is damaged or no .npz file"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "is damaged or no .npz file"),
        (Path.unlink, "no such file"),
    ],
)
def test_hostile_files(
    salve: Callable, arrays: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "acts.npz"
    write(path, {name: values for name, values in arrays.items() if name != "bias"})
    attack(path)
    done = salve(path, "--out", tmp_path / "out", *QUICK)
    assert done.code == 2
    assert done.err.count("error: ") == 1
    assert why in done.err
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", [9, 60, 400])
def test_cut_safetensors(salve: Callable, arrays: dict, tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "acts.safetensors", arrays)
    path.write_bytes(path.read_bytes()[:cut])
    done = salve(path, "--out", tmp_path / "out", *QUICK)
    assert done.code == 2
    assert done.err.count("error: ") == 1
    assert "internal error" not in done.err


@pytest.mark.parametrize(
    ("option", "value"), [("DATA", None), ("--arch", "resnet18"), ("--head", "fc"), ("--weights", "model")]
)
def test_nothing_else_goes_with_arrays(
    salve: Callable, arrays: dict, tmp_path: Path, option: str, value: str | None
) -> None:
    path = write(tmp_path / "acts.npz", arrays)
    more = (tmp_path,) if value is None else (option, value)
    done = salve(path, *more, "--out", tmp_path / "out", *QUICK)
    assert done.code == 2
    assert f"error: {option}: {path} holds activations, labels and head; nothing else is read" in done.err


def test_a_model_without_data_is_a_usage_error(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    done = salve(colour_model, "--out", tmp_path / "out", *QUICK)
    assert done.code == 2
    assert f"error: DATA: no labelled images are given for {colour_model}" in done.err
    assert "hint: salve-audit MODEL DATA" in done.err


def test_a_wrong_order_of_classes_is_warned_of(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    """The labels are the next class's: every sample counts as wrong, and another order would put it right."""
    predicted = (arrays["acts"] @ arrays["weight"].T + arrays["bias"]).argmax(1)
    path = write(tmp_path / "acts.npz", {**arrays, "labels": (predicted + 1) % K})
    done = salve(path, "--out", tmp_path / "out", "--format", "json", *QUICK)
    text = "The order that fits best (class 0 -> output 2, class 1 -> output 0, class 2 -> output 1) would give 100.0 %"
    assert text in done.err
    assert "bring labels and rows of the weight into one order" in done.err
    assert text in (tmp_path / "out" / "audit.json").read_text()


def test_a_zip_directory_that_ends_early(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    path = write(tmp_path / "acts.npz", arrays)
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (20).to_bytes(4, "little")
    path.write_bytes(content)
    done = salve("inspect", path)
    assert done.code == 2
    assert "is damaged or no .npz file (BadZipFile: Truncated central directory)" in done.err


def test_a_transposed_weight_is_named(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    done = salve("inspect", write(tmp_path / "acts.npz", {**arrays, "weight": arrays["weight"].T}))
    assert done.code == 2
    assert "looks transposed: expected (classes, activations), activations are 8" in done.err


def test_what_is_not_read_and_one_hot_labels_are_said(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    hot = {**arrays, "labels": np.eye(K, dtype=np.int64)[arrays["labels"]], "split": np.array(["train"] * N)}
    for ending in ("npz", "safetensors"):
        if ending == "safetensors":
            del hot["split"]
            hot["extra"] = np.zeros(3)
        path, out = write(tmp_path / f"hot.{ending}", hot), tmp_path / ending
        assert salve(path, "--out", out, "--format", "json", *QUICK).code == 0
        notes = load_audit(out).notes
        assert any("single 1 in each row: taken as classes" in note for note in notes)
        assert any("were not read: " + ("split" if ending == "npz" else "extra") in note for note in notes)


def test_inspect_shows_what_is_in_the_file(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    done = salve("inspect", write(tmp_path / "acts.npz", arrays))
    assert done.code == 0, done.err
    n_fit = sum(round(0.6 * n) for n in np.bincount(arrays["labels"]))
    counts = f"{n_fit} to fit, {N - n_fit} to audit"
    for words in ("arrays (.npz)", "weight: 8 -> 3", counts, "class 0, class 1, class 2"):
        assert words in done.out
    refused = salve("inspect", tmp_path / "acts.npz", tmp_path)
    assert refused.code == 2
    assert "nothing else is read" in refused.err
    refused = salve("inspect", tmp_path / "acts.npz", "--head", "fc")
    assert "error: --head: " in refused.err


def test_inspect_lists_labels_that_do_not_exclude_each_other(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    logits = arrays["acts"] @ arrays["weight"].T
    labels = (logits > np.median(logits, axis=0)).astype(np.float64)
    done = salve("inspect", write(tmp_path / "acts.npz", {**arrays, "labels": labels}))
    assert done.code == 0, done.err
    assert "3 labels that do not exclude each other, --label NAME chooses one: class 0, class 1, class 2" in done.out


def test_labels_may_be_texts_or_whole_floats(salve: Callable, arrays: dict, tmp_path: Path) -> None:
    """All three give the same audit; texts are the class_names, or sorted where there are none."""
    names, labels = np.array(["ape", "bee", "cat"]), arrays["labels"]
    forms = {
        "int": {},
        "float": {"labels": labels.astype(np.float32)},
        "texts": {"labels": names[labels]},
        "named": {"labels": names[::-1][labels], "class_names": names[::-1]},
    }
    results = {}
    for form, change in forms.items():
        out = tmp_path / form
        done = salve(write(tmp_path / f"{form}.npz", {**arrays, **change}), "--out", out, "--format", "json", *QUICK)
        assert done.code == 0, done.err
        results[form] = load_audit(out)
    accuracies = {form: [record.accuracy for record in result.classes] for form, result in results.items()}
    assert all(accuracies[form] == accuracies["int"] for form in ("float", "texts", "named"))
    assert [record.name for record in results["texts"].classes] == ["ape", "bee", "cat"]
    assert [record.name for record in results["named"].classes] == ["cat", "bee", "ape"]
    half = write(tmp_path / "half.npz", {**arrays, "labels": labels + 0.5})
    assert "expected whole numbers" in salve("inspect", half).err
    other = write(
        tmp_path / "other.npz", {**arrays, "labels": names[labels], "class_names": np.array(["ape", "b", "c"])}
    )
    assert "'bee' is none of the 3 class_names" in salve("inspect", other).err
