"""Several processes that train one run together: how they meet, what process 0 tells the others, how all of them end.
No JAX.

Process 0 listens at `runtime.coordinator`; each other process keeps one connection to it, over which both send lines
of JSON. A process that ends early says why, and one that is killed is missed at once, because its connection closes;
the others then end too, even where they wait inside a collective that nobody will complete. JAX's own coordination
would abort them without the reason, and waits minutes where one process was never started.

Whoever reaches that port can take part in the run or stop it: use an address of a network that you trust.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from crh_train.config import RunConfig, RuntimeConfig, semantic
from crh_train.digest import digest_json
from crh_train.errors import ConfigError, CrhTrainError, Interrupted, ProcessFailed, UsageError

MEETING_SECONDS = 300.0  # for which the processes wait for one another at the start
GRACE_SECONDS = 3.0  # to end in good order after another process failed, before a process is ended where it stands

_HELLO_SECONDS = 5.0  # in which one that connects must say who it is
_LINE_BYTES = 1 << 16
_DONE = {"done": True}


class Address(NamedTuple):
    host: str
    port: int


def devices_here(runtime: RuntimeConfig) -> int:
    """How many of the run's devices each process has.

    Raises `ConfigError` where the keys about processes contradict one another.
    """
    count = runtime.processes
    if runtime.process >= count:
        raise ConfigError(
            f"runtime.process={runtime.process} must be below runtime.processes={count}: processes count from 0"
        )
    if runtime.devices % count:
        raise ConfigError(
            f"runtime.devices={runtime.devices}, of all processes together, must be a multiple of "
            f"runtime.processes={count}"
        )
    if count > 1:
        coordinator(runtime)
    return runtime.devices // count


def coordinator(runtime: RuntimeConfig) -> Address:
    """Where process 0 listens. Raises `ConfigError`."""
    if runtime.coordinator is None:
        raise ConfigError(
            f"runtime.processes={runtime.processes} needs runtime.coordinator=HOST:PORT, where process 0 awaits the "
            "others, such as 127.0.0.1:9871"
        )
    host, _, port = runtime.coordinator.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"runtime.coordinator={runtime.coordinator} must be HOST:PORT, such as 127.0.0.1:9871")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


class Group:
    """This process among those of its run. Process 0 tells, the others are told."""

    def __init__(self, index: int, count: int, peers: Mapping[int, "_Connection"], service_port: int) -> None:
        self.index = index
        self.count = count
        self.service_port = service_port  # on process 0's host, for JAX
        self._peers = peers
        self._told: queue.SimpleQueue[dict[str, Any] | ProcessFailed] = queue.SimpleQueue()
        self._failure: ProcessFailed | None = None
        self._failed = threading.Event()
        self._ending = threading.Event()  # set once the main thread has left the run, for whatever reason
        self._watchers = [threading.Thread(target=self._watch, args=(i,), daemon=True) for i in peers]
        for watcher in self._watchers:
            watcher.start()

    @property
    def first(self) -> bool:
        return self.index == 0

    def tell(self, document: Mapping[str, Any]) -> None:
        """Say `document` to the others: process 0 to each of them, they to process 0."""
        for peer in self._peers.values():
            peer.send(document)

    def told(self) -> dict[str, Any] | None:
        """The others: wait for what process 0 tells next; None: it is done. Raises `ProcessFailed`."""
        message = self._next()
        if message == _DONE:
            self._ending.set()
            return None
        return message

    def ready(self, run_hash: str) -> None:
        """Every process says which run it has opened; process 0 waits until all have said the same.

        Raises `UsageError` where one has another, `ProcessFailed`.
        """
        if not self.first:
            self.tell({"ready": run_hash, "process": self.index})
            return
        for _ in self._peers:
            said = self._next()
            if said["ready"] != run_hash:
                raise UsageError(
                    f"process 0 has run {run_hash}, process {said['process']} has {said['ready']}: the files of the "
                    "data, or the versions of crh-train, are not the same there"
                )

    def done(self) -> None:
        """End in good order: the others wait here until process 0 is done. Raises `ProcessFailed`."""
        if self.first:
            self._ending.set()
            self.tell(_DONE)
        while not self._ending.is_set():
            self.told()

    def _next(self) -> dict[str, Any]:
        message = self._told.get()
        if isinstance(message, ProcessFailed):
            raise message
        return message

    def failed(self, error: BaseException) -> BaseException:
        """Let the others know that this process ends with `error`. Returns what to raise: the failure of another
        process where `error`, as a broken collective does, only followed from that."""
        consequence = isinstance(error, Exception) and not isinstance(error, CrhTrainError)
        if consequence:
            self._failed.wait(GRACE_SECONDS)
        self._ending.set()
        if self._failure is not None:
            return self._failure if consequence else error
        text = f"process {self.index} of {self.count} ended: {_reason(error)}".splitlines()[0]
        self.tell({"failed": text, "code": exit_code(error)})
        return error

    def wait_for_the_others(self) -> None:
        """Process 0, after a failure: give the others time to end, because JAX aborts them when process 0 is gone."""
        until = time.monotonic() + 2 * GRACE_SECONDS
        for watcher in self._watchers if self.first else []:
            watcher.join(max(0.0, until - time.monotonic()))

    def _watch(self, index: int) -> None:
        while True:
            message = self._peers[index].receive()
            if message is None:
                self._fail(
                    f"process {index} of {self.count} is gone, without a word; what was saved before is kept: start "
                    "all processes again, with `crh-train resume HASH` where the run exists",
                    Interrupted.exit_code,
                    GRACE_SECONDS if self.first else 0.0,  # without process 0 JAX is about to abort this one
                )
                return
            if "failed" in message:
                self._fail(message["failed"], message["code"])
                if not self.first:
                    return
            else:
                self._told.put(message)
                if message == _DONE:
                    return

    def _fail(self, text: str, code: int, grace: float = GRACE_SECONDS) -> None:
        if self._ending.is_set() or self._failure is not None:
            return
        self._failure = ProcessFailed(text, code)
        self._failed.set()
        self._told.put(self._failure)
        self.tell({"failed": text, "code": code})  # from process 0 to the rest; the one that it came from is gone
        if not self._ending.wait(grace):  # the main thread waits where no exception reaches it
            sys.stderr.write(f"error: {text}\n")
            sys.stderr.flush()
            os._exit(code)


ALONE = Group(0, 1, {}, 0)


def meet(config: RunConfig) -> Group:
    """Wait until all processes of the run are there. Raises `UsageError` where they are not, or do not fit together."""
    runtime = config.runtime
    address, until = coordinator(runtime), time.monotonic() + MEETING_SECONDS
    hello = {
        "process": runtime.process,
        "runtime.processes": runtime.processes,
        "runtime.devices": runtime.devices,
        "engine.seed": config.engine.seed,
        "configuration": digest_json(semantic(config)),
    }
    sys.stderr.write(
        f"process {runtime.process} of {runtime.processes} waits for the others at {runtime.coordinator}, "
        f"at most {MEETING_SECONDS:.0f} s\n"
    )
    return _listen(address, hello, until) if runtime.process == 0 else _connect(address, hello, until)


def _listen(address: Address, hello: Mapping[str, Any], until: float) -> Group:
    count = hello["runtime.processes"]
    peers: dict[int, _Connection] = {}
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise UsageError(
            f"process 0 cannot listen at runtime.coordinator={address.host}:{address.port}: "
            f"{str(error.strerror).partition(' (')[0]}; give an address of this machine and a port that is free"
        ) from error
    with listener:
        while len(peers) < count - 1:
            listener.settimeout(max(0.0, until - time.monotonic()) or None)
            try:
                if time.monotonic() >= until:
                    raise TimeoutError
                accepted, _ = listener.accept()
            except TimeoutError as error:
                missing = [str(i) for i in range(1, count) if i not in peers]
                text = f"process {', '.join(missing)} of {count} did not come within {MEETING_SECONDS:.0f} s"
                raise _refuse(peers, f"{text}; start all processes") from error
            peer = _Connection(accepted)
            accepted.settimeout(_HELLO_SECONDS)
            found = peer.receive()
            if found is None or found.keys() != hello.keys():
                peer.close()  # a stranger
                continue
            accepted.settimeout(None)
            index = found["process"]
            for name in hello.keys() - {"process"}:
                if found[name] != hello[name]:
                    raise _refuse(
                        {**peers, index: peer},
                        f"process {index} was started with {name}={found[name]}, process 0 with {hello[name]}; give "
                        "all processes the same arguments, but for runtime.process",
                    )
            if index in peers or not 0 < index < count:
                raise _refuse({**peers, -1: peer}, f"two processes have runtime.process={index}; each needs its own")
            peers[index] = peer
    with socket.create_server((address.host, 0), family=family) as free:
        port = free.getsockname()[1]
    for peer in peers.values():
        peer.send({"port": port})
    return Group(0, count, peers, port)


def _refuse(peers: Mapping[int, "_Connection"], text: str) -> UsageError:
    for peer in peers.values():
        peer.send({"refused": text})
        peer.close()
    return UsageError(text)


def _connect(address: Address, hello: Mapping[str, Any], until: float) -> Group:
    problem = ""
    while (left := until - time.monotonic()) > 0:
        try:
            connected = socket.create_connection(address, timeout=left)
        except OSError as error:
            problem = error.strerror or str(error)
            time.sleep(min(0.1, left))
            continue
        peer = _Connection(connected)
        connected.settimeout(max(0.1, until - time.monotonic()) + _HELLO_SECONDS)  # process 0 says first who is missing
        peer.send(hello)
        answer = peer.receive()
        if answer is not None and "port" in answer:
            connected.settimeout(None)
            return Group(hello["process"], hello["runtime.processes"], {0: peer}, answer["port"])
        peer.close()
        raise UsageError(
            answer["refused"]
            if answer is not None and "refused" in answer
            else f"what listens at runtime.coordinator={address.host}:{address.port} is no process 0 of this run, or "
            "it ended; start all processes again"
        )
    raise UsageError(
        f"process 0 was not found at runtime.coordinator={address.host}:{address.port} within {MEETING_SECONDS:.0f} s: "
        f"{problem}; start it too, with the same address"
    )


class _Connection:
    """Lines of JSON to and from one other process. Sending to one that is gone does nothing: it is missed elsewhere."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connected
        self._lines = connected.makefile("rb")

    def send(self, document: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(document).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next line; None where the other side is gone, or speaks another language."""
        try:
            document = json.loads(self._lines.readline(_LINE_BYTES))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def exit_code(error: BaseException) -> int:
    """What the command line ends with after `error`."""
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.exit_code
    return error.exit_code if isinstance(error, CrhTrainError) else 1


def _reason(error: BaseException) -> str:
    if isinstance(error, CrhTrainError):
        return str(error)
    return "stopped by a signal" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
