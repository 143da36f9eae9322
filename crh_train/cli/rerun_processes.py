"""Two runs done again side by side, each in a process of its own: threads and devices, which can decide bits, belong to
a process.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from crh_train.errors import CrhTrainError, Interrupted, ProcessFailed
from crh_train.first_operation import Ask
from crh_train.run_store import RunFolder


@contextmanager
def rerun_both(a: RunFolder, b: RunFolder, overrides: Sequence[str]) -> Iterator[Ask]:
    """Within it, what asks the two `rerun.Rerun`, both at the same time.

    Raises what they raise, and `ProcessFailed` where a process was killed, or crashed.
    """
    with ExitStack() as stack:
        asked = [stack.enter_context(_started(folder, overrides)) for folder in (a, b)]

        def ask(name: str, *arguments: Any) -> tuple[Any, Any]:
            for connection, _ in asked:
                with suppress(ConnectionError):  # it has died, as its reply will tell
                    connection.send((name, arguments))
            one, other = (_reply(*each) for each in asked)
            return one, other

        for each in asked:
            _reply(*each)  # it is open
        yield ask


class _Process(multiprocessing.context.SpawnProcess):
    """Begins with nothing of ours, so that JAX can be started in it with other settings."""


@contextmanager
def _started(folder: RunFolder, overrides: Sequence[str]) -> Iterator[tuple[Connection, _Process]]:
    ours, theirs = multiprocessing.Pipe()
    process = _Process(target=_serve, args=(theirs, folder.path, list(overrides)), name=folder.argument, daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours, process
    finally:
        ours.close()
        process.kill()  # it has nothing to lose
        process.join()


def _reply(connection: Connection, process: _Process) -> Any:
    try:
        reply = connection.recv()
    except (EOFError, ConnectionError) as error:
        process.join()
        code = process.exitcode or 1
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"crashed, with {code}"
        raise ProcessFailed(
            f"the process that did run {process.name} again {how}; the run itself was not touched: give it again, "
            "on a machine with more memory if it ran out",
            code if code > 0 else Interrupted.exit_code,
        ) from error
    if isinstance(reply, CrhTrainError):
        raise reply
    return reply


def _serve(connection: Connection, folder: Path, overrides: Sequence[str]) -> None:
    """Call the methods of a `Rerun` as asked, until nobody asks any more."""
    from crh_train import compilation_cache
    from crh_train.environment import configure
    from crh_train.stored import stored_config

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks is stopped, and stops us
    try:
        run = RunFolder(folder)
        config = stored_config(run, overrides)
        configure(os.environ, config.runtime.threads, config.runtime.devices)
        compilation_cache.use(os.environ, config.runtime)

        from crh_train.rerun import Rerun

        rerun = Rerun(run, config)
        connection.send(None)
        while True:
            name, arguments = connection.recv()
            connection.send(getattr(rerun, name)(*arguments))
    except CrhTrainError as error:
        connection.send(error)
    except (EOFError, ConnectionError):
        pass
