"""Steps per second of the engine, with its chronicle, guard, progress and checkpoints, against a bare jitted loop of
the same step on the same batches. Both sides in one process, alternating; prints a table of medians.

    python scripts/bench/engine_overhead.py [conf=NAME] [KEY=VALUE ...]
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from crh_train.compose import compose, search_path
from crh_train.environment import configure

ROUNDS = 5
EPOCHS = 4


def main() -> None:
    words = sys.argv[1:]
    names = [word.removeprefix("conf=") for word in words if word.startswith("conf=")]
    overrides = [word for word in words if not word.startswith("conf=")]
    config = compose(names[0] if names else "mri_cosine", [f"engine.epochs={EPOCHS}", *overrides], search_path(Path()))
    configure(os.environ, config.runtime.threads, config.runtime.devices)

    import jax

    from crh_train import session, training
    from crh_train.run_store import RunStore

    opened = session.open_config(config)
    stored = session.program_of(opened)
    _, program = training.build(opened, stored)
    steps = EPOCHS * program.steps_per_epoch

    def bare() -> float:
        state = program.init(program.root)
        batches = [program.load(done) for done in range(steps)]
        jax.block_until_ready((state, batches))
        began = time.perf_counter()
        for batch in batches:
            state, metrics = program.train_step(state, batch)
        jax.block_until_ready((state, metrics))
        return steps / (time.perf_counter() - began)

    def engine() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            identity = opened.identity
            record = training.session_record(opened, stored, 0, {})
            folder = RunStore(Path(scratch)).create(identity.run, identity.config, identity.manifest, record, stored)
            began = time.perf_counter()
            training.advance(folder, opened, program, None, steps)
            return steps / (time.perf_counter() - began)

    bare(), engine()  # compile
    rates = [(bare(), engine()) for _ in range(ROUNDS)]
    ratios = [ours / reference for reference, ours in rates]
    print(f"{steps} steps, {ROUNDS} rounds, medians")
    print(f"{'bare jitted loop':<28}{statistics.median(r for r, _ in rates):8.2f} steps/s")
    print(f"{'engine':<28}{statistics.median(o for _, o in rates):8.2f} steps/s")
    print(f"{'engine / bare':<28}{statistics.median(ratios):8.3f}  (from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
