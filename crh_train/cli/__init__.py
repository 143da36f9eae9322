"""The command line: each command's file parses, calls one function of the library, prints, and exits.

Nothing here imports JAX at the top, so that `--help`, `list`, `show` and `verify` answer at once.
"""

import typer

from crh_train.cli import doctor, listing, replay, resume, run, show, verify
from crh_train.cli.output import EXIT_CODES

app = typer.Typer(
    name="crh-train",
    help="Train on medical images; replay any run from its hash, bit for bit.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run", epilog=EXIT_CODES)(run.run)
app.command("replay", epilog=EXIT_CODES)(replay.replay)
app.command("verify", epilog=EXIT_CODES)(verify.verify)
app.command("resume", epilog=EXIT_CODES)(resume.resume)
app.command("list", epilog=EXIT_CODES)(listing.list_runs)
app.command("show", epilog=EXIT_CODES)(show.show)
app.command("doctor", epilog=EXIT_CODES)(doctor.doctor)


def main() -> None:
    app()
