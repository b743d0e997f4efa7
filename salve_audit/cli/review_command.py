"""``salve-audit review AUDIT``: say of what classes depend on whether it is an object or a shortcut; needs no torch."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salve_audit.cli.arguments import AUDIT, check_order
from salve_audit.cli.options import REVIEWED, SectionedCommand, own_option, verbosity_options
from salve_audit.cli.printing import aligned, set_up_logging
from salve_audit.config import WRITTEN
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    from salve_audit.audit.review import ReviewSession, Word
    from salve_audit.results.reviewable import Reviewable

DEFAULT_FILE = "salve-review.toml"
_PATH = click.Path(path_type=Path)
_KEYS = {"a": "accepted", "s": "shortcut", "u": "unclear", "n": "next", "q": "quit"}


@click.command("review", cls=SectionedCommand)
@click.argument("audit", type=_PATH)
@own_option(WRITTEN, "--file", type=_PATH, metavar="FILE", help=f"The review file.  [default: {DEFAULT_FILE}]")
@own_option(
    REVIEWED,
    "--set",
    "said",
    multiple=True,
    metavar="CLASS:KIND=VERDICT",
    help="Say it without asking: KIND is region, 'concept N', a global factor such as border, or *; several times.",
)
@own_option(
    REVIEWED, "--from", "source", type=_PATH, metavar="FILE", help="Take over the entries that the report's form wrote."
)
@own_option(REVIEWED, "--name", default="", metavar="TEXT", help="With --set: what the thing is.")
@own_option(REVIEWED, "--why", default="", metavar="TEXT", help="With --set: the reason.")
@own_option(
    REVIEWED,
    "--limit",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="With --set: drop of accuracy that a shortcut may cost.",
)
@own_option(REVIEWED, "--who", metavar="NAME", help="Who says it.  [default: the user's name]")
@own_option(WRITTEN, "--least", type=click.FloatRange(0, 1), metavar="X", default=0.1, show_default=True,
              help="List what costs a class more than this, interval included.")  # fmt: skip
@own_option(WRITTEN, "--list", "only_list", is_flag=True, help="Only list what there is, and what was said of it.")
@verbosity_options
def command(
    audit: Path,
    file: Path | None,
    said: tuple[str, ...],
    source: Path | None,
    name: str,
    why: str,
    limit: float | None,
    who: str | None,
    least: float,
    only_list: bool,
    verbose: int,
    quiet: bool,
) -> int:
    """Review what the classes of AUDIT (an audit.json or its folder) depend on, into salve-review.toml.

    A policy names the file (review = "salve-review.toml"): a shortcut fails beyond its limit, an accepted object never
    does. In a terminal each thing is asked for; the report's form does the same with images.
    """
    set_up_logging(verbose, quiet)
    check_order("salve-audit review", (AUDIT,), (audit,))
    from salve_audit.audit.review import Word, find_things, open_review
    from salve_audit.gate.review import load_review

    session = open_review(audit, file or Path(DEFAULT_FILE), least)
    who = who or _user()
    if source is not None:
        session.add(load_review(source).entries)
    chosen = [find_things(session, text) for text in said]
    for things, verdict in chosen:
        for thing in things:
            session.say(thing, Word(verdict, name, why, who, limit if verdict == "shortcut" else None))
    if not (said or source is not None or only_list) and is_terminal():
        _ask_all(session, who)
    for line in _summary(session):
        click.echo(line)
    return 0


def is_terminal() -> bool:
    """True where somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user has no name
        return "unknown"


def _ask_all(session: ReviewSession, who: str) -> None:
    """Ask for a word on each open thing; a reader may stop at any one, and what was said before is written."""
    things = session.open
    for at, thing in enumerate(things, 1):
        click.echo(f"\n{at} of {len(things)}: {plain(_describe(thing))}")
        for line in _hints(thing):
            click.echo(f"  {plain(line)}")
        key = click.prompt(
            "[a]ccepted, [s]hortcut, [u]nclear, [n]ext, [q]uit", type=click.Choice(list(_KEYS)), show_choices=False
        )
        if key == "q":
            return
        if key != "n":
            session.say(thing, _ask(thing, _KEYS[key], who))


def _ask(thing: Reviewable, verdict: str, who: str) -> Word:
    from salve_audit.audit.review import Word

    name = click.prompt("what is it", default=thing.name)
    why = click.prompt("why", default="", show_default=False)
    return Word(verdict, name, why, who)


def _describe(thing: Reviewable) -> str:
    share = f"{100 * thing.drop:.0f} % ({100 * thing.low:.0f} to {100 * thing.high:.0f})"
    return f"{thing.class_name} loses {share} of its images without {thing.name} ({thing.kind})"


def _hints(thing: Reviewable) -> list[str]:
    """Where to look, and what may tell an object from a shortcut."""
    concept = thing.concept
    hints: list[str] = []
    if concept is None:
        return hints
    if concept.images:
        hints.append(f"seen in {concept.images[0].path}; the report shows it")
    properties = concept.properties
    if properties is not None:
        hints.append(
            f"{100 * concept.mask_share:.0f} % of the image; alike from image to image {properties.alike:.2f} "
            f"(random places {properties.alike_chance:.2f}); place varies by {100 * properties.place_spread:.0f} % of "
            f"the side (anywhere: {100 * properties.place_chance:.0f} %)"
        )
    return hints


def _summary(session: ReviewSession) -> list[str]:
    """What there is, with what was said of it."""
    if not session.things:
        return ["no class depends on anything strongly enough to be reviewed (--least lists weaker things)"]
    rows = [["class", "kind", "thing", "lost without it", "verdict", "who"]]
    for thing in session.things:
        entry = session.find_entry(thing)
        cells = [thing.class_name, thing.kind, thing.name, f"{100 * thing.drop:.0f} %"]
        said = ["-", "-"] if entry is None else [entry.verdict, f"{entry.who}, {entry.when}"]
        rows.append([plain(cell)[:60] for cell in [*cells, *said]])
    n_open, file = len(session.open), plain(session.review.path)
    end = f"{n_open} of {len(session.things)} not reviewed; {file}"
    return [*aligned(rows), end if Path(session.review.path).exists() else f"{end} is not there yet"]
