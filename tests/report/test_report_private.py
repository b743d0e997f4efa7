"""Private data: no pixel under --no-images, no name under --anonymise, anywhere in what is written."""

from __future__ import annotations

import dataclasses
import io
import json
import zlib
from pathlib import Path

import pandas as pd
import pypdf
import pytest
from report_reliance import build_scenario

from salve_audit.audit.again import RenderAgain, render_again
from salve_audit.audit.private import anonymise_header, anonymise_samples, key_path
from salve_audit.errors import UsageError
from salve_audit.results import AuditResult, parse_audit
from salve_audit.results.notes import DISTRUST, find_distrust
from salve_audit.results.relabel import anonymise, class_names, number_paths, relabel_classes, without_pixels


@pytest.fixture(scope="module")
def result() -> AuditResult:
    return build_scenario("mixed")


@pytest.fixture
def saved(result: AuditResult, tmp_path: Path) -> Path:
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "audit.json").write_text(result.to_json(), encoding="utf-8")
    pd.DataFrame({"path": ["val/secret/1.png"], "label": ["airplane"]}).to_parquet(folder / "samples.parquet")
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file as bytes, and what is packed inside: streams and attachments of PDFs, downloads of pages."""
    every: dict[str, bytes] = {}
    for file in folder.iterdir():
        every[file.name] = file.read_bytes()
        if file.suffix == ".pdf":
            reader = pypdf.PdfReader(io.BytesIO(file.read_bytes()))
            every[f"{file.name} text"] = "\n".join(page.extract_text() for page in reader.pages).encode()
            every |= {f"{file.name} {name}": parts[0] for name, parts in reader.attachments.items()}
        if file.suffix == ".html":
            every |= _downloads(file)
    return every


def _downloads(file: Path) -> dict[str, bytes]:
    import base64
    import re

    packed = re.findall(r"data:application/(gzip|zip);base64,([A-Za-z0-9+/=]+)", file.read_text(encoding="utf-8"))
    parts = {}
    for kind, text in packed:
        content = base64.b64decode(text)
        if kind == "gzip":
            parts[f"{file.name} gzip"] = zlib.decompress(content, wbits=31)
        else:
            import zipfile

            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                parts |= {f"{file.name} {name}": archive.read(name) for name in archive.namelist()}
    assert len(packed) == 2
    return parts


@pytest.mark.slow
def test_no_pixel_is_left_in_any_output(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_again(RenderAgain(saved, out, ("html", "pdf"), no_images=True, pdf="short"))
    reader = pypdf.PdfReader(out / "report.pdf")
    assert not any(page.images for page in reader.pages)
    for name, content in _contents(out).items():
        assert b"data:image" not in content, name
        assert b"\xff\xd8\xff" not in content, name  # the start of a JPEG
        assert b"/9j/" not in content, name  # the same in base64
        assert b"jpeg" not in content.lower(), name
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "image below" not in page
    assert "outlined" not in page[page.index("<main") :].split('id="reading"')[0]


@pytest.mark.slow
def test_no_name_is_left_in_any_output_but_the_key(saved: Path, result: AuditResult, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_again(RenderAgain(saved, out, ("html", "pdf"), anonymise=True, pdf="short"))
    secrets = [name for name in class_names(result) if len(name) > 4]
    secrets += ["val/", "data/cifar10", "resnet18_cifar10_64", "truncated image"]
    contents = _contents(out)
    assert len(contents) > 8
    for name, content in contents.items():
        for secret in secrets:
            assert secret.encode() not in content, (name, secret)
    key = json.loads(key_path(out).read_text(encoding="utf-8"))
    assert key_path(out).parent == out.parent
    assert key_path(out).stat().st_mode & 0o077 == 0
    assert set(key["classes"].values()) == set(class_names(result))
    assert "val/airplane/0.png" in key["paths"].values()


def test_names_do_not_go_where_they_already_lie(saved: Path) -> None:
    with pytest.raises(UsageError, match="the audit itself lies there"):
        render_again(RenderAgain(saved, None, ("html",), anonymise=True))


def test_an_anonymous_audit_is_an_audit(result: AuditResult) -> None:
    anonymous, key = anonymise(result)
    assert parse_audit(anonymous.to_json()) == anonymous
    assert [info.n for info in anonymous.classes] == [info.n for info in result.classes]
    back = dict(key.classes)
    assert [back[info.name] for info in anonymous.classes] == [info.name for info in result.classes]
    assert anonymous.verdict.passed == result.verdict.passed
    assert [back[rule.class_name] for rule in anonymous.verdict.rules] == [r.class_name for r in result.verdict.rules]


def test_an_anonymous_audit_is_trusted_no_more_than_it_was(result: AuditResult) -> None:
    said = "Accuracy is 12.5 %, no better than chance (12.5 %): the model or the labels are wrong."
    for distrust in (None, (len(result.notes),)):  # of an earlier version, and of this one
        wrong = dataclasses.replace(result, notes=(*result.notes, said), distrust=distrust)
        anonymous, _ = anonymise(wrong)
        assert find_distrust(anonymous.notes, anonymous.distrust) == (DISTRUST,)
    trusted, _ = anonymise(result)
    assert find_distrust(trusted.notes, trusted.distrust) == ()


def test_without_pixels_every_number_stays(result: AuditResult) -> None:
    bare = without_pixels(result)
    assert "jpeg" not in bare.to_json()
    assert [concept.effect for concept in bare.concepts] == [concept.effect for concept in result.concepts]
    assert bare.classes == result.classes


def test_numbered_paths_leave_class_names(result: AuditResult) -> None:
    numbered = number_paths(result)
    assert ".png" in result.to_json()
    assert ".png" not in numbered.to_json()
    assert ".jpg" not in numbered.to_json()
    assert numbered.classes == result.classes


def test_relabelling_reaches_notes_and_only_whole_words(result: AuditResult) -> None:
    changed = relabel_classes(result, {"cat": "felis"})
    text = changed.to_json()
    assert '"felis"' in text
    assert '"cat"' not in text
    noted = relabel_classes(
        parse_audit(result.to_json().replace("Two images", "A cat in a category. Two images")), {"cat": "felis"}
    )
    assert noted.notes[0].startswith("A felis in a category.")


def test_samples_and_headers_lose_their_names(result: AuditResult) -> None:
    import numpy as np
    import safetensors.numpy

    _, key = anonymise(result)
    buffer = io.BytesIO()
    row = {"path": ["val/cat/9.png"], "label": ["cat"], "predicted": ["ship"], "flips_to": [None], "margin": [0.5]}
    pd.DataFrame(row).to_parquet(buffer)
    table = pd.read_parquet(io.BytesIO(anonymise_samples(buffer.getvalue(), key)))
    assert table["label"][0].startswith("class ")
    assert table["path"][0].startswith("image ")
    assert table["margin"][0] == 0.5
    file = safetensors.numpy.save({"x": np.ones(3)}, {"concepts": json.dumps({"0": "cat"}), "why_absent": ""})
    bare = anonymise_header(file, key)
    assert b"cat" not in bare
    np.testing.assert_array_equal(safetensors.numpy.load(bare)["x"], np.ones(3))
