"""``salve-audit edit MODEL AUDIT``: write a checkpoint with a permanent edit, in the format it came in."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salve_audit.cli.arguments import AUDIT, MODEL, check_order
from salve_audit.cli.options import AS_AUDITED, EDITED, SectionedCommand, options_of, own_option, shared_option
from salve_audit.cli.printing import MAX_ROWS, aligned, set_up_logging
from salve_audit.config import AUDITED, WRITTEN
from salve_audit.errors import UsageError
from salve_audit.interventions.registry import ABLATION, ALL_WRITERS, SALVE
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    from salve_audit.edit.plan import Step
    from salve_audit.edit.run import EditOutcome
    from salve_audit.edit.verify import ClassCheck

PATH = click.Path(path_type=Path)
SHOWN_TENSORS = 8
SINGLE = ("class_names", "features", "concepts", "alpha_hat", "strength", "to_accuracy", "method", "enhance")
_OPTIONS = [
    own_option(
        EDITED, "--class", "class_names", multiple=True, metavar="NAME",
        help="The class to suppress, by its dominant feature; again for more classes, edited alike.",
    ),
    own_option(
        EDITED, "--feature", "features", multiple=True, metavar="N",
        help="The feature, by number or name, in place of the dominant one; again for more.",
    ),
    own_option(
        EDITED, "--concept", "concepts", multiple=True, metavar="N|NAME",
        help="A concept found in the image, by its number in audit.json, or the one that class NAME depends on most.",
    ),
    own_option(EDITED, "--alpha-hat", type=float, metavar="X", help="SALVE's strength; 1 removes the feature's peak."),
    own_option(EDITED, "--strength", type=float, metavar="X", help="Of any method, in its own unit, as in audit.json."),
    own_option(EDITED, "--to-accuracy", type=float, metavar="P", help="Not a strength, but this share, exactly."),
    own_option(
        EDITED, "--method", metavar="NAME",
        help=f"One of {SALVE.key}, {ABLATION.key}, ..., {ALL_WRITERS.key}  [default: {SALVE.key}]",
    ),
    own_option(EDITED, "--enhance", is_flag=True, help="Strengthen the feature instead."),
    own_option(
        EDITED, "--edit", "specs", multiple=True, metavar="SPEC",
        help="Several edits, in this order: class=church,alpha-hat=0.8; keys are these options.",
    ),
    own_option(WRITTEN, "-o", "--out", type=PATH, required=True, metavar="PATH", help="The edited checkpoint."),
    own_option(WRITTEN, "--force", is_flag=True, help="Replace what is there; never the input."),
    own_option(AUDITED, "--data", type=PATH, metavar="DATA", help="The audit's images, to run the edited model on."),
    shared_option("classes", type=PATH),
    own_option(WRITTEN, "--no-verify", is_flag=True, help="Write without running the edited model."),
    shared_option("arch", unset=AS_AUDITED),
    shared_option("head", unset=AS_AUDITED),
    shared_option("weights", unset=AS_AUDITED),
    shared_option("trust_model"),
    shared_option("cache", type=PATH),
    shared_option("use_cache"),
    shared_option("batch_size"),
    shared_option("workers"),
    shared_option("device"),
]  # fmt: skip


@click.command("edit", cls=SectionedCommand)
@click.argument("model", type=PATH)
@click.argument("audit", type=PATH)
@options_of(_OPTIONS)
def command(model: Path, audit: Path, verbose: int, quiet: bool, **flags: Any) -> int:
    """Write checkpoint MODEL again with features of its AUDIT suppressed or enhanced in the final layer.

    With --concept, something that a class depends on in the images is removed from the layers that would read it.

    AUDIT is the folder that the audit of MODEL left. The new file has the format, names and types of MODEL and other
    numbers in the final layer alone (with a deep method in the named layers before it alone); it appears only after the
    model in it was run on the audit's images (--data) and did what was predicted.
    """
    set_up_logging(verbose, quiet)
    check_order("salve-audit edit", (MODEL, AUDIT), (model, audit))
    steps = read_steps(flags)
    from salve_audit.edit.plan import EditRequest
    from salve_audit.edit.run import run_edit

    named = {name: flags.pop(name) for name in ("out", "force", "data", "classes", "arch", "head", "weights", "cache")}
    passed = {name: flags.pop(name) for name in ("trust_model", "batch_size", "workers", "device")}
    request = EditRequest(
        model=model,
        audit=audit,
        steps=steps,
        verify=not flags["no_verify"],
        use_cache=flags["use_cache"],
        progress=not quiet,
        **named,
        **passed,
    )
    with _terminating_cleanly():
        print_outcome(run_edit(request), request.out, request.verify)
    return 0


def read_steps(flags: dict[str, Any]) -> tuple[Step, ...]:
    """The edits that the options name; takes these options out of `flags`.

    Raises:
        UsageError: ``--edit`` beside options of a single edit, several classes beside a feature, or no edit.
    """
    from salve_audit.edit.plan import make_step, parse_step

    single, specs = {name: flags.pop(name) for name in SINGLE}, flags.pop("specs")
    given = [name for name, value in single.items() if value not in (None, False, ())]
    if specs:
        if given:
            name = {"class_names": "class", "features": "feature", "concepts": "concept"}.get(
                given[0], given[0].replace("_", "-")
            )
            raise UsageError(f"--{name}", "goes into an --edit of its own where there are several")
        return tuple(parse_step(spec) for spec in specs)
    if not given:
        raise UsageError("edit", "nothing to do", hint="--class NAME --alpha-hat X, or --edit class=NAME,alpha-hat=X")
    names = {"alpha_hat": "alpha-hat", "strength": "strength", "to_accuracy": "to-accuracy"}
    numbers = {key: single[name] for name, key in names.items() if single[name] is not None}
    classes, features, concepts = single["class_names"], single["features"], single["concepts"]
    rest = (numbers, single["method"], single["enhance"])
    if len(classes) > 1 and features:
        raise UsageError("--class", "several of them do not say whose feature it is", hint="one --edit for each edit")
    return tuple(
        make_step(name, feature, *rest, concept)
        for name in classes or (None,)
        for feature in features or (None,)
        for concept in concepts or (None,)
    )


def print_outcome(outcome: EditOutcome, out: Path, verify: bool) -> None:
    """Prints the edit, its effect on every class, and the path of the file."""
    for step in outcome.steps:
        click.echo(plain(step))
    parts = {"weights": outcome.weight_change, "biases": outcome.bias_change}
    sizes = ", ".join(f"{name} by {100 * size:.3g} %" for name, size in parts.items() if size > 0)
    click.echo(f"changed: {plain(_shorten(outcome.changed))}; {sizes} of their norm")
    verification = outcome.verification
    if verification is not None:
        click.echo(_table(verification.classes, [edit["class"] for edit in outcome.record["edits"]]))
    if verify and verification is not None and verification.difference is not None:
        n = sum(check.n for check in verification.classes)
        click.echo(
            f"verified: the file was loaded and run on {n:,} images; its outputs are within "
            f"{verification.difference:.2g} of those predicted ({verification.allowed:.2g} allowed)"
        )
    else:
        click.echo("warning: NOT VERIFIED: the edited model was not run (--no-verify)", err=True)
    click.echo(f"written: {plain(str(out))}")


def _shorten(names: tuple[str, ...]) -> str:
    left = len(names) - SHOWN_TENSORS
    more = f" and {left} more (the edit record has all)" if left > 0 else ""
    return ", ".join(names[:SHOWN_TENSORS]) + more


def _table(classes: tuple[ClassCheck, ...], edited: list[str | None]) -> str:
    """Accuracies per class, the edited ones first."""
    ordered = sorted(classes, key=lambda check: check.name not in edited)
    rows = [["class", "n", "before", "predicted", "measured"]]
    for check in ordered[:MAX_ROWS]:
        shares = (check.before, check.predicted, check.measured)
        rows.append([plain(check.name), str(check.n), *("-" if x is None else f"{100 * x:.1f} %" for x in shares)])
    lines = aligned(rows)
    if len(ordered) > MAX_ROWS:
        lines.append(f"... {len(ordered) - MAX_ROWS} more classes")
    return "\n".join(lines)


@contextlib.contextmanager
def _terminating_cleanly() -> Iterator[None]:
    """A request to terminate unwinds like Ctrl-C, so that nothing half-written stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
