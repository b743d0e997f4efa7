"""What image reliance and α̂ vary with: networks trained again, autoencoder seeds, images; and what intervals cover.

    python benchmarks/gate.py --out runs/gate --networks 200 --regressed 0 --images 60     # networks, once
    python benchmarks/stability.py --gate runs/gate --out runs/stability [--images-drawn 24] [--seeds 10]

The world and the audits are those of `gate.py`: four classes at 40 px, 60 audit images of each. Components, each with
all else held fixed: *networks* trained from other seeds on the same images; *seeds* of the audit (autoencoder, random
places, bootstrap) on the first network and the same images; *images* of the audit split drawn anew, for the first
network; *together* both, in audits with five autoencoders and without image reliance; *auto* the same where the audit
chooses the variant as well. Standard deviations are those of one audit: of image reliance in points, of α̂ (flip
median) in decades.

Coverage: the share of the audits whose 95 % interval holds the mean over all of them. Intervals of image reliance claim
it of other images, those of α̂ of other images with one autoencoder and of other images and seeds with several. It is
also counted, and claimed by no interval, of networks trained again. Audits in which half of a class never flips have no
median and are left out of its α̂.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import gate
import numpy as np

from salve_audit import load_audit
from salve_audit.audit.run import run_audit
from salve_audit.demo.images import draw_split
from salve_audit.demo.training import one_thread, save_checkpoint, train_network
from salve_audit.gate.estimates import wilson
from salve_audit.results import AuditResult

N_IMAGES, FIRST_DRAW = 60, 100
SEVERAL = {"together": "linear-l1", "auto": "auto"}  # audits with several autoencoders: --sae


@dataclasses.dataclass(frozen=True)
class Values:
    """One measure of one class over audits: (m,) estimates and the bounds of their intervals."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def deviation(self) -> float:
        return float(self.estimate.std(ddof=1))

    def count_covering(self) -> int:
        """Intervals that hold the mean of all estimates."""
        mean = self.estimate.mean()
        return int(((self.low <= mean) & (mean <= self.high)).sum())


def run_audits(out: Path, n_drawn: int, n_seeds: int) -> None:
    """Audit the first network on images drawn anew, and with other seeds; what is there is kept."""
    case = gate.make_cases()[0]
    out.mkdir(parents=True, exist_ok=True)
    network, data = out / "network.pt", out / "data"
    if not network.is_file():
        train = draw_split(case.world, "train", gate.N_TRAIN, gate.DATA_SEED)
        save_checkpoint(
            train_network(train.pixels, train.labels, gate.RECIPE, 1000), gate.RECIPE, network, case.world.size,
            case.world.class_names,
        )  # fmt: skip
    for draw in range(n_drawn + 1):  # the first with the images of the gate
        place = data / str(draw)
        if not place.is_dir():
            for split, n in (("train", gate.N_TRAIN), ("val", N_IMAGES)):
                seed = gate.DATA_SEED if split == "train" or not draw else FIRST_DRAW + draw
                gate.write_split(case, place, draw_split(case.world, split, n, seed))
    jobs = [("images", draw, draw, 0) for draw in range(1, n_drawn + 1)]
    jobs += [("seeds", seed, 0, seed) for seed in range(n_seeds)]
    for component in SEVERAL:
        jobs += [(component, draw, draw, FIRST_DRAW + draw) for draw in range(1, n_drawn + 1)]
    for component, i, draw, seed in jobs:
        folder = out / component / str(i)
        if not (folder / "audit.json").is_file():
            config = dataclasses.replace(gate.audit_config(network, data / str(draw), N_IMAGES, folder), seed=seed)
            if component in SEVERAL:
                config = dataclasses.replace(
                    config, sae=SEVERAL[component], sae_seeds=5, evidence="off", fail_over_reliance=None
                )
            run_audit(config)
            print(f"{component} {i}", flush=True)


def gather(audits: Sequence[AuditResult], name: str) -> dict[str, Values]:
    """Measures of one class over audits."""
    reliance, alpha = [], []
    for audit in audits:
        info = next(each for each in audit.classes if each.name == name)
        measured = info.image_reliance
        if measured is not None:
            reliance.append((measured.reliance, measured.low, measured.high))
        low, high = info.judged_interval
        median = info.alpha_hat.flip.median
        if median is not None:
            alpha.append((median, low or 0.0, np.inf if high is None else high))
    points = np.array(reliance).reshape(-1, 3).T
    with np.errstate(divide="ignore"):
        decades = np.log10(np.array(alpha).reshape(-1, 3).T)
    return {"image reliance": Values(*points), "α̂ (decades)": Values(*decades)}


def load(folders: Iterable[Path]) -> list[AuditResult]:
    return [load_audit(folder) for folder in sorted(folders) if (folder / "audit.json").is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", type=Path, required=True, help="the folder of gate.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images-drawn", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    began = time.process_time()
    with one_thread():
        if options.images_drawn or options.seeds:
            run_audits(options.out, options.images_drawn, options.seeds)
    components = {
        "networks": load(options.gate.glob(f"no-change/*/{N_IMAGES}")),
        "seeds": load((options.out / "seeds").glob("*")),
        "images": load((options.out / "images").glob("*")),
        **{component: load((options.out / component).glob("*")) for component in SEVERAL},
    }
    print("| measure | component | audits | standard deviation by class | intervals that hold the mean |")
    print("|---|---|---|---|---|")
    for measure in ("image reliance", "α̂ (decades)"):
        for component, audits in components.items():
            each = {name: gather(audits, name)[measure] for name in gate.CLASSES}
            if not any(len(values.estimate) for values in each.values()):
                continue
            covering, n = sum(v.count_covering() for v in each.values()), sum(len(v.estimate) for v in each.values())
            low, high = wilson(covering, n)
            spread = ", ".join(f"{name} {values.deviation:.2f}" for name, values in each.items())
            print(
                f"| {measure} | {component} | {len(audits)} | {spread} | {covering / n:.2f} [{low:.2f}, {high:.2f}] |"
            )
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


if __name__ == "__main__":
    main()
