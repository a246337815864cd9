"""The command line: each command parses, calls one library function and prints.

No module here imports torch, scipy or an image library at its top: `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from typing import Any

import typer

from mitosight import __version__
from mitosight.cli.adapt import adapt
from mitosight.cli.bench import bench
from mitosight.cli.candidates import candidates
from mitosight.cli.convert import convert
from mitosight.cli.demo import demo
from mitosight.cli.detect import detect
from mitosight.cli.evaluate import evaluate
from mitosight.cli.export import export
from mitosight.cli.finetune import finetune
from mitosight.cli.info import info
from mitosight.cli.methods import methods
from mitosight.cli.models import models
from mitosight.cli.pair import pair
from mitosight.cli.phantom import phantom
from mitosight.cli.samples import samples
from mitosight.cli.styles import styles
from mitosight.cli.train import train
from mitosight.cli.tune import tune
from mitosight.errors import InputError


class _Commands(typer.core.TyperGroup):
    """Says that it was interrupted, where typer itself ends without a word."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(_interrupted()) from None


app = typer.Typer(
    cls=_Commands,
    name="mitosight",
    help="Mitotic figures in H&E images, on scanners the detector never saw. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mitosight {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command()(convert)
app.command()(evaluate)
app.command()(info)
app.command()(train)
app.command()(tune)
app.command()(finetune)
app.command()(detect)
app.command()(bench)
app.command()(adapt)
app.command()(candidates)
app.command()(export)
app.command()(pair)
app.command()(methods)
app.command()(models)
app.command()(styles)
app.command()(samples)
app.command()(demo)
app.command()(phantom)


def main() -> None:
    """Runs a command; an InputError becomes one line on stderr and its exit status (1 data, 2 usage)."""
    try:
        app()
    except InputError as error:
        typer.echo(f"mitosight: error: {error}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"mitosight: error: {where}{error.strerror}; free space or choose another place", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_interrupted())


def _interrupted() -> int:
    typer.echo("mitosight: interrupted", err=True)
    return 130
