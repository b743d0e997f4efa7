"""Fuzzes every loader with mutated files for a given time; prints the number of inputs and the findings.

::

    python benchmarks/fuzz.py --seconds 3600

A finding is anything but success or a SalveError of one line: another exception, a crash of the interpreter, over two
minutes, or over 4 GiB of memory. Inputs are valid small files (fuzz_seeds.py) with bytes changed, cut out, repeated or
replaced by numbers at the edges; some are cut off while they are read. The loaders run in a process of their own, which
is started again after a crash and after every few thousand inputs. Input N of a run is made from the seed and N alone:
``--first N --count 1`` shows it again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fuzz_seeds import Seed, make_seeds

from salve_audit.errors import SalveError

KINDS = ("flip", "set", "cut", "repeat", "insert", "number", "end")
EDGES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
MOST_CHANGES = 4
CUT_SHARE, CUT_WITHIN = 1 / 8, 0.02  # of the inputs, seconds
PER_PROCESS = 4000
SLOW, LARGE = 120, 4 << 20  # seconds, KiB

Change = tuple[str, float, int]


@dataclass(frozen=True)
class Case:
    """One input: a seed, its changes, and, where it is cut off while it is read, after how many seconds and to what."""

    seed: Seed
    changes: list[Change]
    cut: tuple[float, float] | None = None


@dataclass
class Tally:
    """What came of the inputs so far."""

    outcomes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    findings: Counter[str] = field(default_factory=Counter)
    largest: int = 0

    @property
    def n_inputs(self) -> int:
        """How many inputs were tried, whatever kind they are of."""
        return sum(counts.total() for counts in self.outcomes.values())


def mutate(content: bytes, changes: Sequence[Change]) -> bytes:
    """`content` after (kind, place as a share of the length, value) one after the other."""
    data = bytearray(content)
    for kind, share, value in changes:
        at = int(share * max(len(data), 1))
        if kind == "flip" and data:
            data[at] ^= 1 << value % 8
        elif kind == "set" and data:
            data[at] = value
        elif kind == "cut":
            del data[at : at + value]
        elif kind == "repeat":
            data[at:at] = data[at : at + value]
        elif kind == "insert":
            data[at:at] = bytes([value]) * (value % 17)
        elif kind == "number":
            data[at : at + 8] = EDGES[value % len(EDGES)].to_bytes(8, "little" if value % 2 else "big")
        elif kind == "end":
            del data[at:]
    return bytes(data)


def draw_case(seeds: Sequence[Seed], seed: int, number: int) -> Case:
    """Input `number` of the run with `seed`."""
    rng = np.random.default_rng([seed, number])
    chosen = seeds[int(rng.integers(len(seeds)))]
    if rng.random() < CUT_SHARE and not chosen.only_refused:
        return Case(chosen, [], (CUT_WITHIN * float(rng.random()) ** 3, float(rng.random())))
    n = int(rng.integers(1, MOST_CHANGES + 1))
    changes = [(str(rng.choice(KINDS)), float(rng.random()), int(rng.integers(256))) for _ in range(n)]
    return Case(chosen, changes)


def try_input(case: Case, folder: Path) -> tuple[str, str | None]:
    """Loads the input as the seed's kind of file: ``read``, ``refused`` or ``finding``, and a finding's traceback."""
    path = folder / case.seed.name
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, content in case.seed.beside.items():
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    content = mutate(case.seed.content, case.changes)
    path.write_bytes(content)
    cutter = threading.Timer(case.cut[0], os.truncate, (path, int(case.cut[1] * len(content)))) if case.cut else None
    try:
        if cutter:
            cutter.start()
        case.seed.load(path)
    except SalveError as error:
        if "\n" in str(error):
            return "finding", f"{case.seed.name}: an error of several lines: {error}"
        return "refused", None
    except Exception:  # whatever else escapes is what is looked for
        return "finding", f"{case.seed.name}: {traceback.format_exc()}"
    finally:
        if cutter:
            cutter.join()
        path.unlink()
    return "read", None


def work(seeds: Sequence[Seed], seed: int, first: int, count: int, folder: Path) -> None:
    """Tries inputs and writes what it is at to stdout, so that the process that watches knows where this one died."""
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for number in range(first, first + count):
        case = draw_case(seeds, seed, number)
        print(f"at\t{number}\t{case.seed.name}", flush=True)
        faulthandler.dump_traceback_later(SLOW, exit=True)
        outcome, finding = try_input(case, folder)
        faulthandler.cancel_dump_traceback_later()
        if finding is not None:
            print(f"found\t{json.dumps(finding)}", flush=True)
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"done\t{outcome}\t{largest}", flush=True)
        if largest > LARGE:
            return  # the memory never becomes less, so that a new process is needed


def watch(command: Sequence[str], tally: Tally, end: float) -> int | None:
    """Runs a worker until it ends or the time is over; the number of its last input, None where it did none."""
    with TemporaryDirectory() as place, (Path(place) / "stderr").open("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as worker:
            assert worker.stdout is not None, "a pipe was asked for"
            last = _follow(worker.stdout, tally, end)
            is_over = last.done and time.monotonic() > end
            if is_over:
                worker.kill()
        if worker.returncode != 0 and not is_over:
            errors.seek(0)
            said = errors.read()[-4000:]
            _add(tally, last.number, f"{last.name}: the process ended with {worker.returncode}\n{said}")
            tally.outcomes[last.name]["finding"] += not last.done
    return last.number


@dataclass
class _Last:
    """What a worker is at."""

    number: int | None = None
    name: str = ""
    done: bool = True


def _follow(lines: Iterable[str], tally: Tally, end: float) -> _Last:
    """Counts what a worker says, until it says no more or the time is over."""
    last = _Last()
    for line in lines:
        word, *rest = line.rstrip("\n").split("\t")
        if word == "at":
            last = _Last(int(rest[0]), rest[1], False)
        elif word == "found":
            _add(tally, last.number, json.loads(rest[0]))
        elif word == "done":
            last.done, largest = True, int(rest[1])
            tally.outcomes[last.name][rest[0]] += 1
            tally.largest = max(tally.largest, largest)
            if largest > LARGE:
                _add(tally, last.number, f"{last.name}: {largest / 1024:,.0f} MiB of memory")
        if last.done and time.monotonic() > end:
            break
    return last


def _add(tally: Tally, number: int | None, finding: str) -> None:
    """Counts a finding; one of a new kind (by where it was raised) is printed."""
    lines = [line.strip() for line in finding.splitlines() if line.strip()]
    places = [line for line in lines if line.startswith("File ")]
    crashed = "Fatal Python error" in finding or "Timeout" in finding  # faulthandler names the innermost place first
    what = lines[0] if crashed else f"{lines[0].partition(':')[0]}: {lines[-1].partition(':')[0]}"
    kind = f"{what} {places[0 if crashed else -1] if places else ''}"
    if kind not in tally.findings:
        print(f"finding by input {number}:\n{finding}", flush=True)
    tally.findings[kind] += 1


def commands(first: int, seed: int, seeds: Path, folder: Path) -> list[str]:
    """The command of a worker."""
    own = [sys.executable, os.path.abspath(__file__), "--first", str(first), "--count", str(PER_PROCESS)]
    return [*own, "--seed", str(seed), "--worker", str(seeds), str(folder)]


def run(seconds: float, seed: int, first: int) -> Tally:
    """Starts one worker after the other."""
    tally, end = Tally(), time.monotonic() + seconds
    with TemporaryDirectory() as place:
        stored = Path(place) / "seeds"
        stored.write_bytes(pickle.dumps(make_seeds()))
        while time.monotonic() < end:
            last = watch(commands(first, seed, stored, Path(place) / "inputs"), tally, end)
            first = first + 1 if last is None else last + 1
            say = f"{tally.n_inputs:,} inputs, {len(tally.findings)} kinds of finding"
            print(f"{say}, {max(end - time.monotonic(), 0):,.0f} s left", flush=True)
    return tally


def describe(tally: Tally) -> Iterator[str]:
    """The table and the sum."""
    for name, counts in sorted(tally.outcomes.items()):
        yield f"{name:34} {', '.join(f'{outcome} {n:,}' for outcome, n in sorted(counts.items()))}"
    for kind, n in tally.findings.items():
        yield f"{n:,} times {kind}"
    sums = f"{tally.findings.total():,} findings ({len(tally.findings)} kinds)"
    yield f"{tally.n_inputs:,} inputs to {len(tally.outcomes)} loaders, {sums}; peak {tally.largest / 1024:,.0f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--count", type=int, help="try so many inputs in this process instead")
    parser.add_argument("--worker", nargs=2, metavar=("SEEDS", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        seeds = pickle.loads(Path(given.worker[0]).read_bytes())
        work(seeds, given.seed, given.first, given.count, Path(given.worker[1]))
        return 0
    if given.count:
        with TemporaryDirectory() as place:
            work(make_seeds(), given.seed, given.first, given.count, Path(place))
        return 0
    tally = run(given.seconds, given.seed, given.first)
    print("\n".join(describe(tally)))
    return int(bool(tally.findings))


if __name__ == "__main__":
    sys.exit(main())
