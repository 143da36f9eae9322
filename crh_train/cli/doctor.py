"""`crh-train doctor`: what this machine is, and what is promised on it."""

import os

from crh_train.cli.output import JsonOption, command, emit, fields, following

PROMISED = (
    "the same configuration, data and seed give the same bits whenever the fingerprint is the same: "
    "in another process, another session, after resume, and on another machine of this fingerprint"
)
NOT_PROMISED = (
    "another fingerprint (CPU model, instruction set, threads, devices, versions, flags): "
    "stock XLA gives other bits there; replay then compares all the same and says what it found"
)


@command
def doctor(json_output: JsonOption = False) -> None:
    """Show devices, versions and XLA flags, and say which promise holds here."""
    from crh_train import environment

    environment.configure(os.environ, threads=0, devices=1)
    found = environment.fingerprint(os.environ, devices=1)
    digest = environment.fingerprint_digest(found)
    if json_output:
        emit({"fingerprint": found, "digest": digest, "promised": PROMISED, "not_promised": NOT_PROMISED})
        return
    cpu, devices, software = found["cpu"], found["devices"], found["software"]
    fields(
        [
            ("cpu", f"{cpu['model']} ({cpu['architecture']}, {cpu['system']})"),
            ("features", " ".join(cpu["features"])),
            ("threads", str(found["threads"])),
            ("device", f"{devices['platform']}: {devices['kind']}"),
            ("software", " · ".join(f"{name} {version}" for name, version in software.items())),
            ("XLA flags", " ".join(found["xla_flags"])),
            ("settings", " ".join(f"{name}={value}" for name, value in environment.VARIABLES.items())),
            ("fingerprint", digest),
            ("determinism", "native"),
            ("promised", PROMISED),
            ("not promised", NOT_PROMISED),
        ]
    )
    following("crh-train run conf=mri_cosine")
