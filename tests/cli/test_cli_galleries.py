"""Galleries through the command line: there by default, kept out on demand, elsewhere the reason why they are not."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

from salve_audit import load_audit
from salve_audit.results import Seeing

pytestmark = pytest.mark.slow

QUICK = ["--format", "html,json", "--interventions", "salve", "--sae", "linear-l1", "--sae-seeds", "1"]
QUICK += ["--deep-edits", "off", "--evidence", "off"]
FLAT = """
import torch
from torch import nn

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))

def flat(num_classes=3):
    return Flat()

flat.input_size = (3, 32, 32)
"""


@pytest.fixture
def audited(head_audit: Path) -> Path:
    return head_audit


@pytest.fixture
def seeing(audited: Path) -> Seeing:
    galleries = load_audit(audited / "out").seeing
    assert galleries is not None
    return galleries


def test_every_dominant_and_shared_feature_has_images_with_maps(audited: Path, seeing: Seeing) -> None:
    result = load_audit(audited / "out")
    shown = {feature.feature for feature in seeing.features}
    assert shown == {c.dominant_feature for c in result.classes} | {f.index for f in result.features if f.cross_class}
    assert seeing.why_absent == ""
    assert seeing.unreadable == ()
    for gallery in seeing.features:
        for image in gallery.images:
            assert image.path in seeing.images
            assert [heat_map.method for heat_map in image.maps] == ["grad-fam", "integrated"]
    assert {fragile.class_name for fragile in seeing.fragile} == {"blue", "green", "red"}


def test_strongest_images_can_be_recomputed_from_what_is_left_behind(audited: Path, seeing: Seeing) -> None:
    out = audited / "out"
    saved, sae = load_file(out / "activations.safetensors"), load_file(out / "sae.safetensors")
    table = pd.read_parquet(out / "samples.parquet")
    codes = saved["audit_acts"] @ sae["encoder_weight"].T + sae["encoder_bias"]
    for gallery in seeing.features:
        own = codes[:, gallery.feature]
        order = np.argsort(-np.abs(own), kind="stable")[: len(gallery.images)]
        np.testing.assert_allclose([image.code for image in gallery.images], own[order], rtol=1e-4)
        assert [image.path for image in gallery.images] == table.path[order].tolist()
        assert [image.predicted for image in gallery.images] == table.predicted[order].tolist()
    for fragile in seeing.fragile:
        rows = table[(table.label == fragile.class_name) & np.isfinite(table.alpha_hat_flip)]
        first = rows.sort_values("alpha_hat_flip", kind="stable").head(len(fragile.images))
        np.testing.assert_allclose([image.alpha_hat for image in fragile.images], first.alpha_hat_flip)
        assert [image.flips_to for image in fragile.images] == first.flips_to.tolist()


def test_thumbnails_show_the_images(colour_data: Path, seeing: Seeing) -> None:
    for path, image in seeing.images.items():
        own = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.jpeg)))).mean((0, 1))
        file = np.asarray(Image.open(colour_data / path)).mean((0, 1))
        np.testing.assert_allclose(own, file, atol=4)


def test_no_images_keeps_every_pixel_out(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = salve(colour_model, colour_data, *QUICK, "--out", out, "--cache", audited / "cache", "--no-images")
    assert done.code == 0, done.err
    text, page = (out / "audit.json").read_text(), (out / "report.html").read_text()
    assert '"jpeg"' not in text
    assert "/9j/" not in text
    assert "data:image" not in page
    assert "<img" not in page
    assert "is not shown: images are kept out of this report (--no-images)." in page
    assert '"images": false' in text


def test_a_saved_audit_is_rendered_again_with_its_images(audited: Path, salve: Callable, tmp_path: Path) -> None:
    """From audit.json alone: where it lies now there are no images."""
    for name in ("audit.json", "samples.parquet"):
        shutil.copy(audited / "out" / name, tmp_path)
    assert salve("report", tmp_path, "--format", "html").code == 0
    assert (tmp_path / "report.html").read_bytes() == (audited / "out" / "report.html").read_bytes()
    assert re.findall(r'<img src="data:image/jpeg;base64,', (tmp_path / "report.html").read_text())


def test_an_unknown_layer_is_refused_before_the_work_starts(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = salve(colour_model, colour_data, "--saliency-layer", "layer9", "--out", out, "--cache", audited / "cache")
    assert done.code == 2
    assert re.search(r"error: .*colours\.pt: has no module 'layer9'\nhint: .*layer", done.err)
    assert "autoencoder" not in done.err
    assert not out.exists()


def test_an_earlier_layer_gives_a_finer_grid(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, seeing: Seeing
) -> None:
    done = salve(
        *(colour_model, colour_data, *QUICK[2:], "--saliency-layer", "layer1"),
        *("--cache", audited / "cache", "--format", "json", "--out", "-", "--quiet"),
    )
    assert done.code == 0, done.err
    finer = json.loads(done.out)["seeing"]
    assert (finer["layer"], finer["grid"]) == ("layer1", [8, 8])
    assert seeing.grid < (8, 8)


def test_arrays_have_no_images_and_take_no_layer(audited: Path, salve: Callable, tmp_path: Path) -> None:
    arrays = audited / "out" / "activations.safetensors"
    done = salve(arrays, *QUICK[2:], "--format", "json", "--out", "-", "--quiet")
    assert done.code == 0, done.err
    why = json.loads(done.out)["seeing"]["why_absent"]
    assert why == "activations were audited, and there are no images of them"
    refused = salve(arrays, "--saliency-layer", "layer4", "--out", tmp_path / "out")
    assert refused.code == 2
    assert "error: --saliency-layer" in refused.err


def test_a_network_without_places_leaves_the_section_out_and_says_why(
    salve: Callable, colour_data: Path, tmp_path: Path
) -> None:
    import torch

    (tmp_path / "flat.py").write_text(FLAT)
    torch.manual_seed(0)
    parts = {"body.1": torch.nn.Linear(3 * 32 * 32, 8), "head": torch.nn.Linear(8, 3)}
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    torch.save(state, tmp_path / "flat.pt")
    arch = f"{tmp_path / 'flat.py'}:flat"
    done = salve(tmp_path / "flat.pt", colour_data, *QUICK, "--arch", arch, "--no-cache", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<h2 id="heading-seeing"' not in page
    assert re.search(r"What the features look at is not shown: .*flat\.pt: no ", page)
    assert "no heat maps" in done.err
