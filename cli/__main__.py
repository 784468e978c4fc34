"""The `maas` command: puts the command groups together and shows errors. Does no work itself."""

import os
import sys

import typer

from cli import call, certs, keys, models
from cli.answers import print_failure
from cli.client import CallFailed
from cli.console import console
from cli.doctor.command import doctor
from cli.down import down, status
from cli.evaluate import evaluate
from cli.loglevel import loglevel
from cli.plan import command as plan
from cli.render import print_error
from cli.team import together
from cli.top.command import top
from cli.train import train
from cli.up import up
from cli.usage import usage
from services.runtime.errors import PreconditionFailed, ServiceError

app = typer.Typer(
    name="maas",
    help="Model-as-a-Service: run the suite, look after its models, call it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(models.app, name="models")
app.add_typer(call.app, name="call")
app.add_typer(keys.app, name="keys")
app.add_typer(certs.app, name="certs")
app.add_typer(plan.app, name="plan")
app.command()(up)
app.command()(down)
app.command()(status)
app.command()(top)
app.command()(doctor)
app.command()(console)
app.command()(usage)
app.command()(loglevel)
app.command()(train)
app.command()(evaluate)


def main() -> None:
    """Run the command line; an error of ours, or a path that is of no use, is shown as one line."""
    try:
        with together(os.environ):
            app()
    except ServiceError as error:
        print_error(error)
        sys.exit(1)
    except CallFailed as error:
        print_failure(error)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        print_error(PreconditionFailed(f"{error.filename}: {error.strerror}"))
        sys.exit(1)


if __name__ == "__main__":
    main()
