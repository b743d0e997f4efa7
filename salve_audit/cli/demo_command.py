"""``salve-audit demo``: audit of a generated world with known answers."""

from __future__ import annotations

import click

from salve_audit.cli.audit_command import print_result
from salve_audit.cli.options import SectionedCommand, config_option, verbosity_options
from salve_audit.cli.printing import set_up_logging
from salve_audit.config import FORMATS, AuditConfig
from salve_audit.results import DemoTruth
from salve_audit.results.plain_text import plain

DEFAULT_OUT = "salve-demo"


@click.command("demo", cls=SectionedCommand)
@config_option("out", default=DEFAULT_OUT, help=f"Folder for world and results  [default: {DEFAULT_OUT}]")
@config_option("seed", default=0, help="Seed of images, training and audit  [default: 0]")
@config_option("format", "formats", default=FORMATS)
@verbosity_options
def command(out: str, seed: int, formats: tuple[str, ...], verbose: int, quiet: bool) -> int:
    """Draw a world with planted causes, train a small network on it, audit it, and compare with the truth.

    Needs no data and no network. DIR/world/ keeps the checkpoint and the images for audits by hand.
    """
    set_up_logging(verbose, quiet)
    from salve_audit.demo.run import DemoSettings, run_demo

    result = run_demo(DemoSettings(out=out, seed=seed, format=formats, progress=not quiet))
    print_result(result, AuditConfig(model="model.pt", data="data", out=out, format=formats))
    if result.demo is not None:
        click.echo(truth_table(result.demo))
    return 0


def truth_table(demo: DemoTruth) -> str:
    """The planted causes next to the correlations of the statistics with them, as text."""
    lines = ["", "planted: accuracy lost when a cue is really left out of the images"]
    for planted in demo.classes:
        drops = ", ".join(f"{plain(cue)} {drop:+.2f}" for cue, drop in planted.true_drop.items()) or "no cue"
        lines.append(f"  {plain(planted.class_name):14s} {drops}")
    lines.append("Spearman correlation over classes with the largest drop; a class that truly depends on one cue")
    lines.append(
        "should be fragile, so alpha_hat, feature redundancy and edit size would be near -1 if they ranked the truth"
    )
    for statistic in demo.correlations:
        rho = "undefined" if statistic.rho is None else f"{statistic.rho:+.2f}"
        lines.append(f"  {statistic.statistic:28s} {rho}  (n = {statistic.n})")
    return "\n".join(lines)
