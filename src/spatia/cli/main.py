"""The command `spatia`: what every command shares. One command is one file of this folder and one line of `COMMANDS`.

stdout carries the result, stderr the log. Exit codes: 0 fine, 1 failed, 2 wrong use or refused input, 130 interrupted.
This module and the files of commands import nothing heavy at the top, so that ``spatia --help`` answers at once.
"""

import importlib
import logging
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spatia.errors import SpatiaError
from spatia.log import configure, logger

# command -> heading in `spatia --help`; `spatia.cli.<command>` holds the function of that name (`-` reads `_` there)
COMMANDS = {
    "simulate": "Slides",
    "check": "Slides",
    "build": "Corpora",
    "inspect": "Corpora",
    "verify": "Corpora",
    "split": "Corpora",
    "train": "Models",
    "embed": "Models",
    "train-generator": "Models",
    "generate": "Models",
    "annotate": "Tasks",
    "cluster": "Tasks",
    "domains": "Tasks",
    "impute": "Tasks",
    "predict-expression": "Tasks",
    "retrieve": "Tasks",
    "pair": "Transitions",
    "screen": "Transitions",
    "bench": "Numbers",
    "evaluate-generation": "Numbers",
    "run": "Everything at once",
    "demo": "Everything at once",
    "report": "Everything at once",
}


class _Group(TyperGroup):
    """Turns what a command may raise into one line and an exit code; anything unexpected keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:  # typer carries its own copy of click in some versions, so no narrower type
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, and not when Python ends: a closed pipe must be met inside this try
        except SpatiaError as error:
            _say(f"error: {error}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interruption:
            _say("interrupted")
            raise typer.Exit(130) from interruption
        except BrokenPipeError as error:
            # The reader (`spatia inspect … | head`) has what it wanted. Python would complain once more on closing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error
        except OSError as error:
            if error.filename is None:
                raise
            logger.debug("%s", traceback.format_exc())
            _say(f"error: {error.filename}: cannot be read or written ({error.strerror}).")
            raise typer.Exit(1) from error
        return result


def _say(message: str) -> None:
    """Print one line on stderr; names from a slide could hold line breaks or terminal escapes, so those go."""
    line = " ".join(message.split())
    typer.echo("spatia: " + "".join(sign if sign.isprintable() else "?" for sign in line), err=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from spatia.version import __version__

        typer.echo(f"spatia {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="spatia",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # the plain traceback is what a bug report needs
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every step.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only; no progress bars.")] = False,
    version: Annotated[  # noqa: ARG001 - the callback acts on it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From the output folder of an imaging-based spatial transcriptomics run to embeddings, domains and a report."""
    if verbose and quiet:
        raise typer.BadParameter("--verbose and --quiet exclude each other.")
    configure(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


def _register() -> None:
    for command, heading in COMMANDS.items():
        name = command.replace("-", "_")
        function = getattr(importlib.import_module(f"spatia.cli.{name}"), name)
        app.command(command, rich_help_panel=heading)(function)


_register()


def main() -> None:
    """Run the command line; the entry point of the `spatia` script."""
    app(prog_name="spatia")


if __name__ == "__main__":
    main()
