"""What each level of determinism promises, in words. No JAX.

`portable` promises the same bits on every machine; `native` promises them where the machine's fingerprint is the same.
"""

from collections.abc import Mapping, Sequence

from crh_train.errors import UsageError

PROMISES: Mapping[str, str] = {
    "portable": (
        "the same configuration, data and seed give the same bits on every machine: whatever its processor, "
        "instruction set, threads, devices and processes, in any session, and after a resume. Another version of JAX "
        "gives them by the run's archived program. GPUs are meant to give them too, which was not measured yet"
    ),
    "native": (
        "the same configuration, data and seed give the same bits wherever the machine's fingerprint is the same; "
        "under another one nothing is promised, and every command says so"
    ),
}


def depends_on_machine(level: str) -> bool:
    """Whether bits may be others under another fingerprint. A level that is not known here promises nothing more."""
    return level != "portable"


def promise(level: str, differences: Sequence[str]) -> tuple[bool, str]:
    """Whether the bits of a run are promised on this machine, and a sentence that says so.

    Args:
      differences: of this machine's fingerprint from the run's, as `environment.differences` gives them.
    """
    if level == "portable":
        parts = sorted({line.partition(":")[0].partition(".")[0] for line in differences})
        where = f"; what differs here: {', '.join(parts)}" if parts else ""
        return True, f"portable arithmetic: the same bits are promised on every machine{where}"
    if not differences:
        return True, f"same machine fingerprint: {level} determinism promises the same bits here"
    return False, f"another machine fingerprint ({'; '.join(differences)}): {level} determinism promises no bits here"


def sentence(level: str) -> str:
    """Raises `UsageError` for a level of which nothing is known here."""
    if level not in PROMISES:
        raise UsageError(
            f"determinism '{level}' has no sentence in promises.py that says what it promises; "
            f"known: {', '.join(PROMISES)}"
        )
    return PROMISES[level]
