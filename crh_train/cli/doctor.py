"""`crh-train doctor`: what this machine is, and what is promised on it."""

import os
from typing import Any

import typer

from crh_train.cli.output import JsonOption, command, emit, fields, following


@command
def doctor(json_output: JsonOption = False) -> None:
    """Show devices, versions and XLA flags, and say which promise holds here.

    A small program under portable arithmetic is run, and its bits compared with those that every machine must give;
    where they are others, the exit code is 1.
    """
    from crh_train import environment
    from crh_train.promises import PROMISES

    environment.configure(os.environ, threads=0, devices=1)
    found = environment.fingerprint(os.environ, devices=1)
    digest = environment.fingerprint_digest(found)
    from crh_train import self_check

    verified = (bits := self_check.found()) == self_check.GOLDEN
    check = {"expected": self_check.GOLDEN, "found": bits, "verified": verified}
    if json_output:
        emit({"fingerprint": found, "digest": digest, "promises": dict(PROMISES), "portable": check})
    else:
        _print(found, digest, verified)
        following("crh-train run conf=mri_cosine" if verified else "report this machine; use determinism=native")
    if not verified:
        raise typer.Exit(1)


def _print(found: dict[str, Any], digest: str, verified: bool) -> None:
    from crh_train.environment import VARIABLES
    from crh_train.promises import PROMISES

    cpu, devices, software = found["cpu"], found["devices"], found["software"]
    fields(
        [
            ("cpu", f"{cpu['model']} ({cpu['architecture']}, {cpu['system']})"),
            ("features", " ".join(cpu["features"])),
            ("threads", str(found["threads"])),
            ("device", f"{devices['platform']}: {devices['kind']}"),
            ("software", " · ".join(f"{name} {version}" for name, version in software.items())),
            ("XLA flags", " ".join(found["xla_flags"])),
            ("settings", " ".join(f"{name}={value}" for name, value in VARIABLES.items())),
            ("fingerprint", digest),
            ("portable", PROMISES["portable"]),
            ("verified", "yes: this machine gives the bits of every machine" if verified else "NO: it gives others"),
            ("native", PROMISES["native"]),
        ]
    )
