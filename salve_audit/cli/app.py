"""The command group, its lazily loaded commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
import traceback
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from salve_audit import __version__
from salve_audit.cli.command_group import FAILED, CommandGroup
from salve_audit.cli.first_words import as_typed, put_command_first
from salve_audit.cli.printing import say_end
from salve_audit.errors import SalveError, UsageError
from salve_audit.machine import find_limit, is_out_of_memory
from salve_audit.results.plain_text import plain

COMMANDS = {
    "audit": "Audit a model on labelled images (the default command).",
    "inspect": "Show what the tool sees in a model and a data set; run nothing.",
    "demo": "Audit a generated world whose right answers are known.",
    "report": "Render the report again from a saved audit.json.",
    "gate": "Judge a saved audit.json under a policy.",
    "review": "Say what of it is an object and what a shortcut.",
    "compare": "Compare two saved audits, with statistics.",
    "explain": "Explain one image: prediction, features, evidence, heat maps.",
    "edit": "Write a checkpoint with a permanent edit, in its own format.",
    "export": "Write an audit as a model card, as CSV or for MLflow.",
    "cache": "List or clear what audits have left for the next one.",
}
OWN_FLAGS = ("-h", "--help", "-V", "--version")
EPILOG = """\b
COMMAND --help has all its options; -V tells the version.
Exit codes: 0 audited (and the policy holds), 1 the policy is violated,
2 nothing trustworthy was measured, 130 interrupted.
"""
INTERRUPTED = 130
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENXIO, errno.EBADF)  # of standard output
LONGEST = 1500  # characters of a message; names in it may be of any length


class AuditGroup(CommandGroup):
    """Commands by name, loaded when they are needed; a first word that names none is the model of an audit."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"salve_audit.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in OWN_FLAGS:
            args = put_command_first(args, COMMANDS, lambda name: self.get_command(ctx, name))
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and files: the first word may be a model."""
        return [CompletionItem(incomplete, type="file"), *super().shell_complete(ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands alone: the text below them has the flags."""
        self.format_commands(ctx, formatter)


@click.group(
    cls=AuditGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    options_metavar="",
    subcommand_metavar="MODEL DATA [OPTIONS] | COMMAND [ARGS]...",
    epilog=EPILOG,
)
@click.version_option(__version__, "-V", "--version", prog_name="salve-audit")
def cli() -> None:
    """Tell how much an image classifier depends on single things in its images.

    \b
      salve-audit demo               no model at hand: audit a generated world
      salve-audit model.pt data/     audit; the report lies in salve-report/
      salve-audit gate salve-report  exit 1 where a class breaks the policy
    """


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Exit code of the command line with these arguments; every error becomes one line on stderr."""
    try:
        _check_working_folder()
        code = cli.main(args=arguments, prog_name="salve-audit", standalone_mode=False)
        if sys.stdout is not None:  # closed by who started this
            sys.stdout.flush()
        return int(code or 0)
    except SalveError as error:
        return _fail(as_typed(error, arguments), error.hint, error.exit_code)
    except click.UsageError as error:
        hint = error.ctx.command_path + " --help" if error.ctx else None
        return _fail(_on_one_line(error), f"see {hint}" if hint else None, FAILED)
    except click.ClickException as error:
        return _fail(_on_one_line(error), None, FAILED)
    except (KeyboardInterrupt, click.Abort):
        say_end("interrupted", "nothing was left half-written; a second run resumes")
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()  # the reader left; nothing more to say
        return FAILED
    except Exception as error:
        if is_out_of_memory(error):
            return _fail_short_of_memory(error)
        if isinstance(error, OSError) and error.filename is None and error.errno in UNWRITABLE:
            _drop_stdout()
            return _fail(f"standard output: cannot be written ({error.strerror})", "results in --out are whole", FAILED)
        return _fail_internally(error)


def _check_working_folder() -> None:
    """Raises where it was deleted: relative paths mean nothing then, and torch's libraries end the process."""
    try:
        os.getcwd()
    except OSError as error:
        why = f"is gone or cannot be entered ({error.strerror})"
        raise UsageError("the working folder", why, hint="cd into one that exists") from error


def _on_one_line(error: click.ClickException) -> str:
    """Click's message; it sets choices below each other."""
    return " ".join(error.format_message().split())


def _fail_short_of_memory(error: Exception) -> int:
    """Tells what limits memory; what the error held is let go first, so that there is some to tell it in."""
    if error.__traceback__ is not None and not logging.getLogger("salve_audit").isEnabledFor(logging.DEBUG):
        traceback.clear_frames(error.__traceback__)
    limit = find_limit()
    message = f"memory: not enough for this model and these settings ({limit.what} leaves {limit.left / 1e9:.1f} GB)"
    return _fail(message, "allow it more, or try a smaller --batch-size or --n-latents", FAILED)


def _fail_internally(error: Exception) -> int:
    reason = f"internal error: {type(error).__name__}: {error}"
    return _fail(reason, "this is a defect of salve-audit; -v shows where", FAILED)


def _drop_stdout() -> None:
    """Lets what is still buffered go nowhere: Python would fail on it at exit, with an exit code of its own."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, hint: str | None, code: int) -> int:
    if logging.getLogger("salve_audit").isEnabledFor(logging.DEBUG):
        traceback.print_exc()
    line = plain(message)
    with contextlib.suppress(OSError):  # standard error may be on the full disk too; the exit code says it all
        say_end("error", line if len(line) <= LONGEST else line[: LONGEST // 2] + "…" + line[-LONGEST // 2 :], hint)
    return code
