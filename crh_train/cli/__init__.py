"""The command line: each command's file parses, calls one function of the library, prints, and exits.

Commands import the library when they are called, so that `--help` needs none of it, and `list`, `show` and `verify`
never need JAX.
"""

import typer

from crh_train.cli.child_path import own_modules_only
from crh_train.cli.compare import compare
from crh_train.cli.data import data
from crh_train.cli.diagnose import diagnose
from crh_train.cli.diff import diff
from crh_train.cli.doctor import doctor
from crh_train.cli.export import export
from crh_train.cli.gc import gc
from crh_train.cli.listing import list_runs
from crh_train.cli.output import EXIT_CODES
from crh_train.cli.predict import predict
from crh_train.cli.replay import replay
from crh_train.cli.report import report
from crh_train.cli.resume import resume
from crh_train.cli.run import run
from crh_train.cli.show import show
from crh_train.cli.sign import sign
from crh_train.cli.streams import forgiving
from crh_train.cli.verify import verify
from crh_train.cli.watch import watch

app = typer.Typer(
    name="crh-train",
    help="Train on medical images; replay any run from its hash, bit for bit.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run", epilog=EXIT_CODES)(run)
app.command("replay", epilog=EXIT_CODES)(replay)
app.command("verify", epilog=EXIT_CODES)(verify)
app.command("sign", epilog=EXIT_CODES)(sign)
app.command("resume", epilog=EXIT_CODES)(resume)
app.command("list", epilog=EXIT_CODES)(list_runs)
app.command("show", epilog=EXIT_CODES)(show)
app.command("watch", epilog=EXIT_CODES)(watch)
app.command("predict", epilog=EXIT_CODES)(predict)
app.command("export", epilog=EXIT_CODES)(export)
app.add_typer(data, name="data")
app.command("diff", epilog=EXIT_CODES)(diff)
app.command("compare", epilog=EXIT_CODES)(compare)
app.command("diagnose", epilog=EXIT_CODES)(diagnose)
app.command("report", epilog=EXIT_CODES)(report)
app.command("gc", epilog=EXIT_CODES)(gc)
app.command("doctor", epilog=EXIT_CODES)(doctor)


def main() -> None:
    own_modules_only()
    with forgiving():
        app()
