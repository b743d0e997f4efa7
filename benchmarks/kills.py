"""Kills audits at random moments and compares what comes out in the end with an undisturbed audit, byte for byte.

::

    python benchmarks/kills.py --kills 30        # or: make kills

Every audit starts in a fresh cache and is killed again and again (SIGKILL, or SIGTERM one time in three; sometimes the
newest file of the cache is torn as well) until it is done. It prints which stage each kill fell into, and how often the
files differed: none may. Audits are forked from this process, which has loaded the libraries once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

SIDE, CLASSES, N_FIT, N_AUDIT = 32, ("disc", "stripe", "square"), 10, 6
OPTIONS = (
    *("--arch", "test_resnet", "--workers", "0", "--device", "cpu", "--sae", "linear-l1", "--n-latents", "12"),
    *("--sae-seeds", "2", "--interventions", "salve,steering", "--format", "json", "--log-json", "--batch-size", "2"),
    *("--deep-edits", "off", "--sae-budget", "100000", "--evidence-budget", "100000"),  # the clock decides nothing
)
TORN_SHARE, TERMINATED_SHARE = 0.25, 1 / 3
PATIENCE_S = 600


@dataclass
class Tally:
    """What happened.

    Attributes:
        stages: kills by the stage that they fell into.
        audits: how many came to their end.
        differing: files that were not those of the undisturbed audit.
    """

    stages: Counter[str] = field(default_factory=Counter)
    audits: int = 0
    differing: list[str] = field(default_factory=list)


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """A small network with random weights, and images of three classes."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=len(CLASSES))
    torch.save(model.state_dict(), folder / "model.pt")
    rng = np.random.default_rng(0)
    for part, n in (("train", N_FIT), ("val", N_AUDIT)):
        for label, name in enumerate(CLASSES):
            place = folder / "images" / part / name
            place.mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
                pixels[8 + label : 20, 4 * label : 24, label] += 150
                Image.fromarray(pixels).save(place / f"{index:02}.png")
    return folder / "model.pt", folder / "images"


def start_audit(arguments: Sequence[str], log: Path) -> int:
    """Fork an audit; its process. Its events go to `log`."""
    sys.stdout.flush()
    log.write_text("")
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115  # whatever captures them
        from salve_audit.cli.app import run

        code = run(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """The exit code; None: it still runs then."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(min(0.01, max(0.0, end - time.monotonic())))


def read_events(log: Path, name: str) -> Iterator[dict[str, Any]]:
    """The events of that name so far."""
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == name:
                yield event


def stage_of(log: Path) -> str:
    """The last stage that had begun."""
    return ["before the first", *(event["stage"] for event in read_events(log, "stage_started"))][-1]


def wait_for_moment(pid: int, log: Path, stage: str, seconds: float) -> int | None:
    """Wait until so many seconds after a stage has begun; the exit code where the audit ends before."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and stage not in {event["stage"] for event in read_events(log, "stage_started")}:
        code = wait(pid, 0.02)
        if code is not None:
            return code
    return wait(pid, seconds)


def tear_newest(cache: Path, rng: random.Random) -> None:
    """Cut the newest file of the cache off somewhere, as a power cut may."""
    files = sorted((file for file in cache.rglob("*") if file.is_file()), key=lambda file: file.stat().st_mtime_ns)
    if files and files[-1].stat().st_size:
        with files[-1].open("r+b") as stream:
            stream.truncate(rng.randrange(files[-1].stat().st_size))


def kill_audits(folder: Path, n_kills: int, seed: int) -> Tally:
    """Kill audits `n_kills` times, let each come to its end, and compare."""
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    model, data = make_inputs(folder)
    rng, tally = random.Random(seed), Tally()

    def arguments(name: str) -> list[str]:
        place = ("--cache", str(folder / f"{name}-cache"), "--out", str(folder / name))
        return ["audit", str(model), str(data), *OPTIONS, *place]

    code = wait(start_audit(arguments("whole"), folder / "log"), PATIENCE_S)
    if code != 0:
        raise SystemExit(f"the undisturbed audit ended with {code}:\n{(folder / 'log').read_text()}")
    spans = {event["stage"]: event["seconds"] for event in read_events(folder / "log", "stage_finished")}
    expected = read_files(folder / "whole")
    while sum(tally.stages.values()) < n_kills:
        tally.audits += 1
        name = f"audit{tally.audits}"
        _kill_until_done(arguments(name), folder, spans, n_kills, (rng, tally))
        found = read_files(folder / name)
        tally.differing += [f"{name}/{file}" for file in expected if found.get(file) != expected[file]]
        shutil.rmtree(folder / f"{name}-cache")
    return tally


def _kill_until_done(
    arguments: list[str], folder: Path, spans: dict[str, float], n_kills: int, state: tuple[random.Random, Tally]
) -> None:
    (rng, tally), cache = state, Path(arguments[arguments.index("--cache") + 1])
    while True:
        pid = start_audit(arguments, folder / "log")
        if sum(tally.stages.values()) < n_kills:
            stage = rng.choice(sorted(spans))
            code = wait_for_moment(pid, folder / "log", stage, rng.uniform(0, spans[stage]))
        else:
            code = wait(pid, PATIENCE_S)
        if code is None:
            os.kill(pid, signal.SIGTERM if rng.random() < TERMINATED_SHARE else signal.SIGKILL)
            os.waitpid(pid, 0)
            tally.stages[stage_of(folder / "log")] += 1
            if rng.random() < TORN_SHARE:
                tear_newest(cache, rng)
        elif code == 0:
            return
        else:
            raise SystemExit(f"an audit ended with {code}:\n{(folder / 'log').read_text()}")


def read_files(folder: Path) -> dict[str, bytes]:
    """Contents by name; nothing half-written lies beside them."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}


def main() -> None:
    """Kill, and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads do not outlive a fork
    with TemporaryDirectory() as folder:
        tally = kill_audits(Path(folder), options.kills, options.seed)
    for stage, count in tally.stages.most_common():
        print(f"{stage:24} {count:4} kills")
    print(f"{sum(tally.stages.values())} kills in {tally.audits} audits; {len(tally.differing)} files differ")
    sys.exit(1 if tally.differing else 0)


if __name__ == "__main__":
    main()
