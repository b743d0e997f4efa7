"""A group of commands that shows its help where no command is given."""

from __future__ import annotations

import click

FAILED = 2  # exit code: nothing was measured, a script without its arguments must not pass


class CommandGroup(click.Group):
    """Without arguments it prints its help; click's own way differs from version to version."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(FAILED)
        return super().parse_args(ctx, args)
