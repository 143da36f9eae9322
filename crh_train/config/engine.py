"""Engine, determinism, runtime, diagnostics."""

from dataclasses import dataclass

from crh_train.config.fields import at_least, between, path


@dataclass(frozen=True, kw_only=True)
class PortableConfig:
    """The same bits on every machine, whatever its threads, instruction set, devices or processes."""

    name: str
    digits: int = between(2, 4)  # of 8 bits, that a product keeps of each operand


@dataclass(frozen=True, kw_only=True)
class NativeConfig:
    """XLA's own arithmetic: the same bits on the same machine and software."""

    name: str


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    seed: int = between(0, 2**32 - 1)  # in the run hash, not in the configuration hash
    epochs: int = at_least(1)
    batch_size: int = at_least(1)  # samples in one optimizer step
    micro_batches: int = at_least(1)  # equal parts of a batch whose gradients are accumulated in order
    learning_rate: float = at_least(0.0)  # at the schedule's peak


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how, never what: outside every hash."""

    devices: int = at_least(1)  # the batch is sharded over so many, those of all processes together
    processes: int = at_least(1)  # the devices are spread over so many, each started on its own
    process: int = at_least(0)  # which of them this is, counted from 0, which alone writes the run
    coordinator: str | None  # HOST:PORT at which process 0 awaits the others
    threads: int = at_least(0)  # of XLA on the CPU; 0: as many as the process may use
    checkpoint_every: int = at_least(1)  # epochs
    keep: int | None = at_least(2)  # checkpoints, the best and the newest; null: all
    retention_days: float | None = at_least(0.0)  # after which `crh-train gc` thins the checkpoints; null: never
    progress: bool
    data_root: str | None = path()  # the folder of the user's own data, for every source but data=mni152
    cache: str | None = path()  # prepared arrays; null: the user's cache folder
    compilation_cache: bool  # compiled code is kept in the user's cache folder and used again; false: all is compiled


@dataclass(frozen=True, kw_only=True)
class DiagnosticsConfig:
    """What a run does about its continuity diagnoses. Part of its identity only where it acts."""

    act: bool  # stop where training diverges, lower the learning rate where it degrades or oscillates; else advise
    patience: int = at_least(1)  # ends of epochs, one after another, that must ask for a lower learning rate
    factor: float = between(0.0, 1.0)  # multiplies the learning rate
    minimum_factor: float = between(0.0, 1.0)  # of the schedule's learning rate, that all changes together leave
