"""How often the gate errs: networks trained again without any change, and with a planted regression.

A world of four of the demo's classes, at 40 pixels, is drawn once; network 0 of it is audited, and its audit proposes
the policy (``gate --init``) and is the baseline. Further networks are trained with other seeds: on the same world (a
gate that does not hold is a false alarm), and on worlds with one regression each (every gate that holds is a miss;
whether a warning names the class that changed is counted apart). Audit images come from the world that the network was
trained on, drawn from the same seeds, so that images pair with the baseline's. A gate with a review has a person's word
on the baseline's concepts: what covers the planted shortcut is one, the rest is accepted. Not every network learns what
was planted: the last column counts those alone that lose 30 % of the class when its images are drawn without it.

    python benchmarks/gate.py --out runs/gate --networks 200 --regressed 40 --images 60
    python benchmarks/gate.py --out runs/gate --networks 200 --regressed 40 --images 60 --part 2/2
    python benchmarks/gate.py --out runs/gate --networks 30 --regressed 20 --images 30 120
    python benchmarks/gate.py --out runs/gate --networks 0 --regressed 0 --images 30 60 120   # prints alone

Every audit is a file in the folder: a second call takes up where the first ended, and several parts can run side by
side. The table, and a plot in the folder, are made of what is there.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from salve_audit.audit.run import run_audit
from salve_audit.config import AuditConfig
from salve_audit.demo.files import image_path
from salve_audit.demo.images import DrawnSplit, class_keys, draw, draw_split
from salve_audit.demo.training import NetworkRecipe, normalise_pixels, one_thread, save_checkpoint, train_network
from salve_audit.demo.world import Planted, PlantedClassSpec, World, demo_world
from salve_audit.gate.audit_file import read_audit_file
from salve_audit.gate.estimates import wilson
from salve_audit.gate.init import MARGIN, propose_policy
from salve_audit.gate.review import Entry, Review
from salve_audit.gate.review_file import write_review
from salve_audit.gate.run import Request, run_gate
from salve_audit.results import AuditResult, Verdict
from salve_audit.results.looks import CELLS, ConceptLook, decode_places, name_image
from salve_audit.results.reviewable import REGION, fingerprint

N_TRAIN, N_TRUTH, DATA_SEED = 200, 200, 0
DEPENDS = 0.3  # true drop from which a network has the regression that was planted
SIZE, CLUTTER, CLASSES = 40, 5, ("clinic", "ember", "plain", "trio")
SHORTCUT, TAG, BLURRED, BLUR_RADIUS = "clinic", "tag", "plain", 1.2
WITHOUT = "without a baseline"
DASHES = {WITHOUT: "5 3", "with the baseline": "none", "with a review": "1 4"}  # of lines in the plot
SAME = 0.3  # overlap of a concept's places with the shortcut's, from which a person would call it that
LOSSES = "max_drop = { accuracy = 0.1, image_reliance = 0.1, global_factor = 0.1, alpha_hat = 0.5 }\n"
RECIPE = NetworkRecipe(epochs=4, batch_size=32)


@dataclass(frozen=True)
class Case:
    """A world and what was done to it.

    Attributes:
        name: for tables.
        world: that networks are trained and audited on.
        changed: the class that got worse; empty: none did.
        blurred: a class whose images are blurred; empty: none.
    """

    name: str
    world: World
    changed: str = ""
    blurred: str = ""


def make_cases() -> tuple[Case, ...]:
    """The world without a change first, then one case a regression."""
    whole = demo_world()
    few = tuple(kind for kind in whole.classes if kind.name in CLASSES)
    small = dataclasses.replace(whole, size=SIZE, clutter=CLUTTER, classes=few)
    base = _with_cues(small, SHORTCUT, (Planted("cross"), Planted(TAG, 0.6)))
    fewer = _with_cues(base, "trio", (Planted("bar", 0.85), Planted("checkerboard", 0.85)))
    stronger = _with_cues(base, SHORTCUT, (Planted("cross"), Planted(TAG, 0.95)))
    return (
        Case("no change", base),
        Case("one of three redundant cues removed", fewer, "trio"),
        Case("a shortcut raised from 60 % to 95 %", stronger, SHORTCUT),
        Case("a blur shortcut added", base, BLURRED, blurred=BLURRED),
    )


def _with_cues(world: World, name: str, cues: tuple[Planted, ...]) -> World:
    classes = tuple(PlantedClassSpec(name, cues) if kind.name == name else kind for kind in world.classes)
    return dataclasses.replace(world, classes=classes)


def main() -> None:
    """Runs what is missing of this part, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=200, help="networks without a change, beside the baseline's")
    parser.add_argument("--regressed", type=int, default=40, help="networks of every regression")
    parser.add_argument("--images", type=int, nargs="+", default=[60], help="audit images per class")
    parser.add_argument("--part", default="1/1", help="I/N: every N-th network, from the I-th")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no network after this many")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with one_thread():
        for case, seed in _jobs(options):
            if time.monotonic() - start > options.seconds:
                break
            _run(case, seed, tuple(options.images), options.out)
    print(_report(options.out, tuple(options.images)))


def _jobs(options: argparse.Namespace) -> Iterator[tuple[Case, int]]:
    """Networks of this part, those of all cases in turn, so that an interrupted run says something of each."""
    part, parts = (int(number) for number in options.part.split("/"))
    cases = make_cases()
    counts = [options.networks + 1, *[options.regressed] * (len(cases) - 1)]
    jobs = [(seed, case) for case, count in zip(cases, counts, strict=True) for seed in range(count)]
    jobs.sort(key=lambda job: job[0])
    for i, (seed, case) in enumerate(jobs):
        if i == 0 or i % parts == part - 1:  # the baseline's network is every part's
            yield case, seed


def _folder(out: Path, case: Case, seed: int, n: int) -> Path:
    return out / case.name.replace(" ", "-").replace("%", "pct") / f"{seed:04d}" / str(n)


def _run(case: Case, seed: int, images: tuple[int, ...], out: Path) -> None:
    """Trains one network and audits it on so many images per class; what is there already is left."""
    missing = [n for n in images if not (_folder(out, case, seed, n) / "audit.json").is_file()]
    truth = _folder(out, case, seed, 0).with_name("truth.json")
    if not missing and (truth.is_file() or not _has_truth(case)):
        return
    place = _folder(out, case, seed, 0).with_name(f"making-{os.getpid()}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    started = time.process_time()
    train, data = _prepare(case, max(images))
    model = train_network(train.pixels, train.labels, RECIPE, 1000 + seed)
    save_checkpoint(model, RECIPE, place / "model.pt", case.world.size, case.world.class_names)
    if _has_truth(case):
        truth.write_text(json.dumps(_true_drop(case, model)))
    for n in missing:
        run_audit(audit_config(place / "model.pt", data, n, _folder(out, case, seed, n)))
    seconds = time.process_time() - started
    if missing:
        (place.parent / "seconds.json").write_text(json.dumps(seconds))
    shutil.rmtree(place)
    print(f"{case.name}, network {seed}: {seconds:.0f} s of one core", flush=True)


def _has_truth(case: Case) -> bool:
    """True where the changed class's images can be drawn without what was planted."""
    return bool(case.blurred) or case.changed == SHORTCUT


def _true_drop(case: Case, model: nn.Module) -> float:
    """Share of the changed class's right images that lose their class when drawn without the planted shortcut."""
    label = case.world.class_names.index(case.changed)
    keys = class_keys("val", label, N_TRUTH, DATA_SEED)
    drawn = [draw(case.world, key).pixels for key in keys]
    if case.blurred:
        shown, without = [_blur(pixels) for pixels in drawn], drawn
    else:
        shown, without = drawn, [draw(case.world, key, (TAG,)).pixels for key in keys]
    with torch.inference_mode():
        right, kept = (
            model(normalise_pixels(torch.from_numpy(np.stack(pixels)))).argmax(1).numpy() == label
            for pixels in (shown, without)
        )
    return float(1 - kept[right].mean()) if right.any() else 0.0


def _blur(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR_RADIUS)))


@functools.cache
def _prepare(case: Case, n: int) -> tuple[DrawnSplit, Path]:
    """The training images of a world, and a folder with both splits, which all of its networks share."""
    folder = Path(tempfile.mkdtemp(prefix="salve-gate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    train, val = _draw(case, "train", N_TRAIN), _draw(case, "val", n)
    for drawn in (train, val):
        write_split(case, folder, drawn)
    return train, folder


def _draw(case: Case, split: str, n: int) -> DrawnSplit:
    drawn = draw_split(case.world, split, n, DATA_SEED)
    if not case.blurred:
        return drawn
    pixels = drawn.pixels.copy()
    for row in np.flatnonzero(drawn.labels == case.world.class_names.index(case.blurred)):
        pixels[row] = _blur(pixels[row])
    return dataclasses.replace(drawn, pixels=pixels)


def write_split(case: Case, folder: Path, drawn: DrawnSplit) -> None:
    """Image files as the tool reads them."""
    for key, pixels in zip(drawn.keys, drawn.pixels, strict=True):
        file = folder / image_path(case.world, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file, compress_level=1)


def audit_config(model: Path, data: Path, n: int, out: Path) -> AuditConfig:
    """What the default policy judges: accuracy, α̂ with one autoencoder, image reliance; no edits, no heat maps.

    The limit of images is of both splits: the autoencoder is trained on as many per class.
    """
    return AuditConfig(
        model=model,
        data=data,
        out=out,
        format=("json",),
        limit=n,
        sae="linear-l1",
        sae_seeds=1,
        interventions=("salve",),
        deep_edits="off",
        images=False,
        use_cache=False,
        fail_over_reliance=1.0,  # so that every class is measured
    )


@dataclass(frozen=True)
class Outcome:
    """What a gate said: its exit code, and whether it found the changed class beyond a limit, be it with a warning."""

    code: int
    named: bool
    true_drop: float | None = None  # of what was planted, where images can be drawn without it


def judge_all(out: Path, n: int) -> dict[str, dict[str, list[Outcome]]]:
    """Outcomes of every network's gate, by case and by kind of gate."""
    cases = make_cases()
    baseline = _folder(out, cases[0], 0, n)
    if not (baseline / "audit.json").is_file():
        return {}
    proposed = propose_policy(read_audit_file(baseline).result)
    write_review(Review(str(out / f"review-{n}.toml"), tuple(_review(cases[0], read_audit_file(baseline).result))))
    policies = {
        WITHOUT: proposed,
        "with the baseline": LOSSES + proposed,  # keys come first, for tables of classes follow
        "with a review": f'review = "review-{n}.toml"\n{proposed}',
    }
    outcomes: dict[str, dict[str, list[Outcome]]] = {case.name: {way: [] for way in policies} for case in cases}
    for way, text in policies.items():
        file = out / f"policy-{n}-{way.replace(' ', '-')}.toml"
        file.write_text(text)
        for case in cases:
            for folder in sorted((out / _folder(out, case, 0, n).parent.parent.name).glob(f"*/{n}")):
                if folder != baseline and (folder / "audit.json").is_file():
                    request = Request(folder, policy=file, baseline=baseline, allow_mismatch=("data", "autoencoder"))
                    truth = folder.with_name("truth.json")
                    true_drop = json.loads(truth.read_text()) if truth.is_file() else None
                    outcomes[case.name][way].append(_read(run_gate(request).verdict, case, true_drop))
    return outcomes


def _read(verdict: Verdict, case: Case, true_drop: float | None) -> Outcome:
    beyond = {rule.class_name for rule in verdict.rules if rule.outcome == "fail"}
    return Outcome(verdict.exit_code, case.changed in beyond if case.changed else bool(beyond), true_drop)


def _review(case: Case, result: AuditResult) -> Iterator[Entry]:
    """A person's word on every concept: a shortcut where its places are those of the tag, accepted elsewhere."""
    for concept in result.concepts:
        is_tag = concept.class_name == SHORTCUT and concept.look is not None and _covers_tag(case, concept.look)
        verdict = "shortcut" if is_tag else "accepted"
        drop = concept.effect[0]
        yield Entry(
            concept.class_name,
            concept.kind,
            fingerprint(concept) if concept.kind == REGION else "",
            TAG if is_tag else "object",
            verdict,
            "A. Reviewer",
            "2026-11-29",
            "planted",
            min(1.0, drop.high + MARGIN) if is_tag else None,
            concept.look.values if concept.look is not None else "",
            concept.look.places if concept.look is not None else "",
        )


def _covers_tag(case: Case, look: ConceptLook) -> bool:
    """True where the concept's places lie on the tag, in the images that have one."""
    label = case.world.class_names.index(SHORTCUT)
    places, overlaps = decode_places(look.places), []
    for key in class_keys("val", label, 500, DATA_SEED):
        place = places.get(name_image(str(image_path(case.world, key))))
        if place is not None:
            changed = draw(case.world, key).pixels != draw(case.world, key, (TAG,)).pixels
            rows, columns = np.nonzero(changed.any(2))
            overlaps.append(_overlap(place, rows * CELLS / case.world.size, columns * CELLS / case.world.size))
    return bool(overlaps) and float(np.mean(overlaps)) >= SAME


def _overlap(place: tuple[int, int, int, int], rows: np.ndarray, columns: np.ndarray) -> float:
    """Share of the tag's pixels inside of a place; 0 without a tag."""
    if not len(rows):
        return 0.0
    top, left, bottom, right = place
    return float(((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)).mean())


def _report(out: Path, images: tuple[int, ...]) -> str:
    lines = [
        "| images | case | gate | networks | exit 1 | exit 2 | not held | 95 % interval | named | learnt it |",
        "|---|" + "---|" * 9,
    ]
    shares: dict[tuple[str, str], dict[int, tuple[float, float, float]]] = {}
    for n in images:
        for name, ways in judge_all(out, n).items():
            for way, outcomes in ways.items():
                if outcomes:
                    codes = [outcome.code for outcome in outcomes]
                    caught, total = sum(code != 0 for code in codes), len(codes)
                    low, high = wilson(caught, total)
                    shares.setdefault((name, way), {})[n] = (caught / total, low, high)
                    named = sum(outcome.named or outcome.code != 0 for outcome in outcomes)
                    said = f"{caught / total:.3f} | {low:.3f} .. {high:.3f} | {named / total:.3f}"
                    counted = (
                        f"{total} | {codes.count(1)} | {codes.count(2)} | {said} | {_of_those_that_learnt_it(outcomes)}"
                    )
                    lines.append(f"| {n} | {name} | {way} | {counted} |")
    seconds = [json.loads(file.read_text()) for file in out.glob("*/*/seconds.json")]
    if seconds:
        lines += ["", f"{len(seconds)} networks, {sum(seconds) / 60:.0f} minutes of one core in all."]
    (out / "gate.svg").write_text(_plot(shares, images))
    return "\n".join(lines)


def _of_those_that_learnt_it(outcomes: list[Outcome]) -> str:
    """Gates that do not hold, of the networks that truly depend on what was planted."""
    if all(outcome.true_drop is None for outcome in outcomes):
        return ""
    learnt = [outcome for outcome in outcomes if outcome.true_drop is not None and outcome.true_drop >= DEPENDS]
    return f"{sum(outcome.code != 0 for outcome in learnt)} of {len(learnt)}"


def _plot(shares: Mapping[tuple[str, str], Mapping[int, tuple[float, float, float]]], images: tuple[int, ...]) -> str:
    """Share of gates that do not hold, against images per class, one line a case and gate."""
    colours = ("#555555", "#0072b2", "#d55e00", "#009e73")
    names = list(dict.fromkeys(name for name, _ in shares))
    span = max(max(images) - min(images), 1)
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 320" font-family="sans-serif" font-size="12">']
    parts.append("<title>Share of gates that do not hold, by images per class</title>")
    for level, y in ((0.0, 280), (0.5, 160), (0.95, 52), (1.0, 40)):
        parts.append(
            f'<line x1="50" x2="420" y1="{y}" y2="{y}" stroke="#ddd"/><text x="14" y="{y + 4}">{level:g}</text>'
        )
    parts += [f'<text x="{50 + 370 * (n - min(images)) / span - 8:.0f}" y="300">{n}</text>' for n in images]
    for (name, way), points in shares.items():
        colour, dash = colours[names.index(name) % 4], DASHES[way]
        places = [(50 + 370 * (n - min(images)) / span, 280 - 240 * part[0]) for n, part in sorted(points.items())]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
    for i, name in enumerate(names):
        parts.append(f'<text x="435" y="{60 + 20 * i}" fill="{colours[i % 4]}">{name}</text>')
    parts.append('<text x="435" y="160">dashed: without a baseline</text>')
    parts.append('<text x="435" y="180">dotted: with a review</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
