"""What a child process that was asked for JSON has to say, however it ended."""

import json
import signal
from collections.abc import Callable
from typing import Any

from crh_train.errors import ProcessFailed


def child_document(output: str, returncode: int, told: Callable[[str], str], killed: int) -> dict[str, Any]:
    """The document that the child printed, of success or of failure.

    Where it printed none, an error: `told` makes the message of how it ended, and the exit code is the child's, or
    `killed` where a signal ended it.
    """
    try:
        document: dict[str, Any] = json.loads(output)
    except ValueError:
        how = f"was ended by {signal.Signals(-returncode).name}" if returncode < 0 else f"crashed, with {returncode}"
        document = {
            "error": ProcessFailed.__name__,
            "message": told(how),
            "exit_code": returncode if returncode > 0 else killed,
        }
    return document
