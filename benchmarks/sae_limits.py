"""Two measurements for `sae.py`: peak memory on a file larger than memory may be, and the share of a card's limits."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.training import Recipe, train, trapezoid
from salve_audit.sae.variants import VARIANTS

ROWS, D, CLASSES, PLANTED = 1_300_000, 768, 1000, 512
PIECE = 20_000


def measure_memory() -> None:
    """Writes the file, then trains in a process of its own, so that writing does not count."""
    with tempfile.TemporaryDirectory() as folder:
        write_large(Path(folder))
        subprocess.run([sys.executable, __file__, folder], check=True)


def write_large(folder: Path) -> None:
    """Activations sorted by class, as folders of images are: a row per class and sparse codes over planted rows."""
    rng = np.random.default_rng(0)
    weight = (3 * rng.normal(size=(CLASSES, D)) / np.sqrt(D)).astype(np.float32)
    planted = (2 * rng.normal(size=(PLANTED, D)) / np.sqrt(D)).astype(np.float32)
    labels = np.sort(rng.integers(0, CLASSES, ROWS))
    with (folder / "acts.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (ROWS, D)})
        for start in range(0, ROWS, PIECE):
            part = labels[start : start + PIECE]
            codes = rng.standard_normal((len(part), PLANTED), dtype=np.float32)
            codes *= rng.random(codes.shape, dtype=np.float32) < 0.03
            (weight[part] + codes @ planted).tofile(file)
    np.savez(folder / "rest.npz", labels=labels, weight=weight)


def train_large(folder: Path) -> None:
    acts = np.load(folder / "acts.npy", mmap_mode="r")
    rest = np.load(folder / "rest.npz")
    head = LinearHead(rest["weight"], np.zeros(CLASSES, np.float32), "head")
    for variant, sparsity, n_latents in (("topk", 32.0, 1024), ("linear-l1", 0.3, 256)):
        settings = SaeSettings(variant=variant, sparsity=sparsity, n_latents=n_latents)
        start = time.perf_counter()
        info = train_sae(acts, rest["labels"], head, settings).info
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(
            f"{ROWS} x {D} ({acts.nbytes / 1e9:.1f} GB), {variant}, {n_latents} latents, 5 seeds: {seconds:.0f} s, "
            f"R2 {info.r2:.3f}, L0 {info.l0:.1f}, peak of the process {peak:.2f} GiB",
            flush=True,
        )


def measure_card(acts: np.ndarray) -> None:
    """Steps of five seeds on the card: time against the bytes and operations that a dense step cannot do without."""
    if not torch.cuda.is_available():
        print("no graphics card here")
        return
    flops, bandwidth = _card_limits()
    print(
        f"{torch.cuda.get_device_name()}: {flops / 1e12:.0f} TFLOP/s in float32 products, {bandwidth / 1e12:.2f} TB/s"
    )
    data = torch.from_numpy(np.array(acts, dtype=np.float32)).cuda()
    n_seeds, batch, (n, d) = 5, 1000, data.shape
    for variant in ("linear-l1", "topk", "batchtopk", "jumprelu"):
        for m in (256, 2048):
            chosen = VARIANTS[variant]
            generators = [torch.Generator("cuda").manual_seed(i) for i in range(n_seeds)]
            start = chosen.initialise(data, m, generators)
            recipe = Recipe(10, batch, 1e-3, (0.9, 0.95), trapezoid)
            seconds = []
            for _ in range(2):
                torch.cuda.synchronize()
                begun = time.perf_counter()
                train(start, data, chosen.objective(32 if chosen.counted else 0.3, m), recipe, generators)
                torch.cuda.synchronize()
                seconds.append((time.perf_counter() - begun) / recipe.count_steps(n))
            work = 5 * 2 * n_seeds * batch * m * d  # five products
            moved = 4 * n_seeds * (6 * batch * m + 6 * batch * d + 2 * 7 * m * d)  # codes, samples; Adam's seven passes
            floor = max(work / flops, moved / bandwidth)
            print(
                f"{variant:10s} m {m:5d}: {1e3 * seconds[1]:7.3f} ms a step of {n_seeds} x {batch}, "
                f"{work / 1e9:.1f} GFLOP, {moved / 1e9:.2f} GB: {100 * floor / seconds[1]:.0f} % of the roofline"
            )


def _card_limits() -> tuple[float, float]:
    """Measured: float32 operations a second of a large product, bytes a second of a copy."""
    left = torch.randn(8192, 8192, device="cuda")
    flops = 2 * 8192**3 / _cuda_seconds(lambda: left @ left)
    return flops, 2 * left.nbytes / _cuda_seconds(lambda: left.clone())


def _cuda_seconds(work: object, repeats: int = 10) -> float:
    assert callable(work), "work is called"
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


if __name__ == "__main__":
    train_large(Path(sys.argv[1]))
