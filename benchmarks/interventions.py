"""What the comparison of interventions costs from cached activations, and by hooks and forward passes of the network.

    python benchmarks/interventions.py            10 classes, 512 coordinates, 5,000 + 10,000 images
    python benchmarks/interventions.py --large    1,000 classes, 2,048 coordinates, 50,000 + 50,000 images
    python benchmarks/interventions.py --acts FILE.npz

Activations are generated (rectified Gaussians about class means, a noisy head) unless a file gives them: fit_acts,
fit_labels, audit_acts, audit_labels, head_weight, head_bias. By hooks: the same search done on a network of timm with
random weights, on a few images, for two methods and one class, and scaled up by the number of images, methods and
classes; each target is found by bisection on the class's images, then all images are run at every strength of the
area and both targets.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import timm
import torch
from torch import Tensor, nn

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.comparison import ComparisonInputs, ComparisonSettings
from salve_audit.interventions.matched import compare_interventions
from salve_audit.interventions.registry import METHODS

BISECTIONS = 20  # per target, to a millionth of the range
STRENGTHS = 12  # of the area and the targets, on all images
N_TARGETS = 2
HOOKED = ("salve", "steering")


@dataclass(frozen=True)
class Size:
    """k classes, d coordinates, audit and fit images per class; `lead` is how far class means lie apart."""

    k: int
    d: int
    n_audit: int
    n_fit: int
    lead: float


SMALL = Size(10, 512, 500, 1000, 0.15)
LARGE = Size(1000, 2048, 50, 50, 0.18)


def generate(size: Size, seed: int = 0) -> ComparisonInputs:
    """Activations of a made-up network with about three of four images right."""
    rng = np.random.default_rng(seed)
    means = size.lead * rng.standard_normal((size.k, size.d), dtype=np.float32)

    def draw(per_class: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(size.k), per_class)
        acts = np.empty((len(labels), size.d), dtype=np.float32)
        for start in range(0, len(labels), 4096):
            rows = slice(start, start + 4096)
            noise = rng.standard_normal(acts[rows].shape, dtype=np.float32)
            np.maximum(means[labels[rows]] + noise - 0.2, 0, out=acts[rows])
        return acts, labels

    fit_acts, fit_labels = draw(size.n_fit)
    audit_acts, audit_labels = draw(size.n_audit)
    own = np.stack([fit_acts[fit_labels == i].mean(axis=0) for i in range(size.k)])
    weight = 0.5 * (own - own.mean(axis=0))
    weight += 0.7 * weight.std() * rng.standard_normal(weight.shape, dtype=np.float32)
    bias = -(weight * own.mean(axis=0)).sum(axis=1)
    return with_dictionary(LinearHead(weight, bias, "fc"), (fit_acts, fit_labels), (audit_acts, audit_labels), rng)


def with_dictionary(
    head: LinearHead,
    fit: tuple[np.ndarray, np.ndarray],
    audit: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> ComparisonInputs:
    """One latent per class, half mean of the class and half noise, and as many that are noise alone."""
    k, d = head.weight.shape
    own = np.stack([fit[0][fit[1] == i].mean(axis=0) for i in range(k)])
    own -= own.mean(axis=0)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    dictionary = rng.standard_normal((2 * k, d), dtype=np.float32) / np.float32(np.sqrt(d))
    dictionary[:k] += own
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    return ComparisonInputs(
        head=head,
        class_names=tuple(f"class {i}" for i in range(k)),
        features=np.arange(k),
        dictionary=dictionary,
        mean_codes=np.eye(k, 2 * k) + 0.01,
        alive=np.ones(2 * k, dtype=bool),
        fit_acts=fit[0],
        fit_labels=fit[1],
        audit_acts=audit[0],
        audit_labels=audit[1],
    )


def load(path: str) -> ComparisonInputs:
    """A file of arrays, with a made-up dictionary."""
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    return with_dictionary(
        LinearHead(arrays["head_weight"], arrays["head_bias"], "fc"),
        (arrays["fit_acts"], arrays["fit_labels"]),
        (arrays["audit_acts"], arrays["audit_labels"]),
        np.random.default_rng(0),
    )


def time_cached(inputs: ComparisonInputs) -> float:
    """Seconds of the comparison as the audit runs it; prints what was left out."""
    start, busy = time.perf_counter(), time.process_time()
    comparison = compare_interventions(ComparisonSettings(), inputs)
    seconds = time.perf_counter() - start
    print(f"  processor time     {time.process_time() - busy:12,.1f} s")
    for note in comparison.notes:
        print(f"  left out: {note}")
    return seconds


class HookedNetwork:
    """A network, a few images, and labels that are its own predictions."""

    def __init__(self, name: str, n_classes: int, n_images: int, pixels: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.model = timm.create_model(name, num_classes=n_classes).eval()
        self.head: nn.Linear = self.model.get_classifier()
        self.images = torch.randn(n_images, 3, pixels, pixels, generator=rng)
        self.labels = self.logits(self.images).argmax(dim=1)
        self.target = int(self.labels.mode().values)

    def logits(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self.model(images)
        return logits

    def accuracy(self, images: Tensor, labels: Tensor, edit: Callable[[Tensor], Tensor]) -> float:
        """One forward pass of the images with the edit hooked in before the head."""
        handle = self.head.register_forward_pre_hook(lambda module, args: (edit(args[0]),))
        try:
            return float((self.logits(images).argmax(dim=1) == labels).float().mean())
        finally:
            handle.remove()

    def search(self, method: str) -> tuple[float, int]:
        """Seconds of one method on one class, and how many images went through the network."""
        d = self.head.in_features
        coupling = torch.rand(d, generator=torch.Generator().manual_seed(1))
        edits = {
            "salve": lambda t: lambda acts: acts * torch.clamp(1 - t * coupling / coupling.max(), min=0),
            "steering": lambda t: lambda acts: acts - t * coupling,
        }
        own = self.labels == self.target
        mine = self.images[own]
        start, passed = time.perf_counter(), 0
        for level in (0.5, 0.05):
            low, high = 0.0, 4.0
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                reached = self.accuracy(mine, self.labels[own], edits[method](middle)) <= level
                low, high = (low, middle) if reached else (middle, high)
                passed += len(mine)
        for t in np.linspace(0.1, 4.0, STRENGTHS):
            self.accuracy(self.images, self.labels, edits[method](float(t)))
            passed += len(self.images)
        return time.perf_counter() - start, passed


def time_hooked(inputs: ComparisonInputs, network: HookedNetwork) -> float:
    """Seconds that the same work would take by forward passes, from a few images of them."""
    spent = [network.search(method) for method in HOOKED]
    each = sum(seconds for seconds, _ in spent) / sum(passed for _, passed in spent)  # per image and pass
    n, k = len(inputs.audit_labels), len(inputs.class_names)
    passes = N_TARGETS * BISECTIONS * n / k + STRENGTHS * n  # images per method and class
    return each * passes * k * len(METHODS)


def main() -> None:
    """Prints one line per cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--acts")
    options = parser.parse_args()
    inputs = load(options.acts) if options.acts else generate(LARGE if options.large else SMALL)
    logits = inputs.audit_acts @ inputs.head.weight.T + inputs.head.bias
    right = float((logits.argmax(axis=1) == inputs.audit_labels).mean())
    del logits
    (n, d), k = inputs.audit_acts.shape, len(inputs.class_names)
    print(f"{k:,} classes, {d:,} coordinates, {n:,} audit images, {100 * right:.1f} % right, {len(METHODS)} methods")
    cached = time_cached(inputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  cached activations {cached:12,.1f} s   peak memory {peak:.2f} GiB, inputs included")
    name, pixels, few = ("resnet50", 224, 16) if options.large else ("resnet18", 64, 64)
    hooked = time_hooked(inputs, HookedNetwork(name, 4, few, pixels))
    print(
        f"  hooks on {name:9s} {hooked:12,.0f} s   scaled up from {few} images of {pixels} px, two methods, one class"
    )
    print(f"  ratio              {hooked / cached:12,.0f}")


if __name__ == "__main__":
    main()
