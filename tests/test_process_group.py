"""How the processes of a run meet, hear of each other, and end together: real sockets, no JAX."""

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from training_samples import configured, start_python

from crh_train import process_group
from crh_train.config import RunConfig
from crh_train.errors import ConfigError, DataError, ProcessFailed, UsageError
from crh_train.process_group import Group, coordinator, devices_here, exit_code, meet


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def config(**runtime: Any) -> RunConfig:
    whole = configured()
    return dataclasses.replace(whole, runtime=dataclasses.replace(whole.runtime, **runtime))


def configs(count: int, port: int) -> list[RunConfig]:
    address = f"127.0.0.1:{port}"
    return [config(processes=count, devices=count, process=i, coordinator=address) for i in range(count)]


def met(*members: RunConfig) -> list[Group | Exception]:
    """What each of them comes to, all of them at once."""

    def attempt(member: RunConfig) -> Group | Exception:
        try:
            return meet(member)
        except UsageError as error:
            return error

    with ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(attempt, members))


def close(members: Sequence[Group]) -> None:
    for each in members:
        each._ending.set()  # nobody may end this process now
    for each in members:
        for peer in each._peers.values():
            with contextlib.suppress(OSError):
                peer._socket.shutdown(socket.SHUT_RDWR)
    for each in members:
        for watcher in each._watchers:
            watcher.join()
        for peer in each._peers.values():
            peer.close()


@contextlib.contextmanager
def groups(count: int) -> Iterator[list[Group]]:
    found = met(*configs(count, free_port()))
    made = [each for each in found if isinstance(each, Group)]
    try:
        assert made == found
        yield made
    finally:
        close(made)


def lines(found: list[Group | Exception]) -> list[str]:
    assert all(isinstance(each, UsageError) for each in found), found
    assert all("\n" not in str(each) for each in found)
    return [str(each) for each in found]


def failure(act: Callable[[], object]) -> ProcessFailed:
    with pytest.raises(ProcessFailed) as raised:
        act()
    return raised.value


# --- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "processes", "here"), [(1, 1, 1), (6, 1, 6), (6, 3, 2), (3, 3, 1)])
def test_each_process_has_an_equal_part_of_the_devices(devices: int, processes: int, here: int) -> None:
    runtime = config(devices=devices, processes=processes, process=processes - 1, coordinator="host:1").runtime
    assert devices_here(runtime) == here


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"process": 1}, "runtime.process=1 must be below runtime.processes=1: processes count from 0"),
        (
            {"processes": 2, "process": 2, "devices": 2},
            "runtime.process=2 must be below runtime.processes=2: processes count from 0",
        ),
        (
            {"processes": 2, "devices": 3, "coordinator": "host:1"},
            "runtime.devices=3, of all processes together, must be a multiple of runtime.processes=2",
        ),
        (
            {"processes": 2, "devices": 2},
            "runtime.processes=2 needs runtime.coordinator=HOST:PORT, where process 0 awaits the others, such as "
            "127.0.0.1:9871",
        ),
        *(
            (
                {"processes": 2, "devices": 2, "coordinator": wrong},
                f"runtime.coordinator={wrong} must be HOST:PORT, such as 127.0.0.1:9871",
            )
            for wrong in ("host", ":1", "host:", "host:port", "host:0", "host:65536", "host:-1", "host:²")
        ),
    ],
)
def test_keys_that_contradict_one_another_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        devices_here(config(**keys).runtime)
    assert str(raised.value) == said
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "found"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("node-1:65535", ("node-1", 65535)), ("[::1]:5", ("::1", 5))],
)
def test_an_address_is_a_host_and_a_port(given: str, found: tuple[str, int]) -> None:
    assert coordinator(config(coordinator=given).runtime) == found


# --- meeting -------------------------------------------------------------------------------------------------------


def test_process_0_tells_the_others_in_order_until_it_is_done() -> None:
    with groups(3) as (first, *others):
        assert [each.index for each in (first, *others)] == [0, 1, 2]
        assert {each.service_port for each in others} == {first.service_port}
        for number in range(3):
            first.tell({"number": number})
        first.done()
        for other in others:
            assert [other.told() for _ in range(4)] == [{"number": 0}, {"number": 1}, {"number": 2}, None]
            other.done()  # does not wait for a second end


def test_all_are_ready_when_each_has_the_same_run() -> None:
    with groups(3) as (first, *others):
        waiting = threading.Thread(target=first.ready, args=("a",))
        waiting.start()
        others[0].ready("a")
        waiting.join(0.2)
        assert waiting.is_alive()
        others[1].ready("a")
        waiting.join()


def test_a_process_with_another_run_is_named() -> None:
    with groups(3) as (first, *others):
        others[0].ready("a")
        others[1].ready("b")
        with pytest.raises(UsageError, match="process 0 has run a, process 2 has b: the files of the data, or"):
            first.ready("a")


def test_a_process_that_never_comes_is_named_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "MEETING_SECONDS", 0.5)
    zero, one, _two = configs(3, free_port())
    assert lines(met(zero, one)) == ["process 2 of 3 did not come within 0 s; start all processes"] * 2
    (said,) = lines(met(one))
    assert said.startswith(f"process 0 was not found at runtime.coordinator={one.runtime.coordinator} within 0 s: ")


def test_processes_with_other_arguments_are_refused() -> None:
    zero, one = configs(2, free_port())
    seed = dataclasses.replace(one, engine=dataclasses.replace(one.engine, seed=3))
    for other, name in ((seed, "engine.seed=3"), (config(**{**vars(one.runtime), "devices": 4}), "runtime.devices=4")):
        said = lines(met(zero, other))
        assert said[0] == said[1]
        assert said[0].startswith(f"process 1 was started with {name}, process 0 with ")
    model = dataclasses.replace(one, model=dataclasses.replace(one.model, hidden=one.model.hidden + 1))
    assert lines(met(zero, model))[0].startswith("process 1 was started with configuration=")


def test_two_processes_of_one_number_are_refused() -> None:
    zero, one, _two = configs(3, free_port())
    assert lines(met(zero, one, one)) == ["two processes have runtime.process=1; each needs its own"] * 3


def test_an_address_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        zero, _one = configs(2, listener.getsockname()[1])
        (said,) = lines(met(zero))
    assert said.endswith("Address already in use; give an address of this machine and a port that is free")


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"process":1}\n', b"", b"\xff" * 100_000])
def test_a_stranger_does_not_count(said: bytes) -> None:
    zero, one = configs(2, free_port())
    address = coordinator(zero.runtime)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, zero)
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(address) as stranger:
                with contextlib.suppress(OSError):
                    stranger.sendall(said)
                break
        second = pool.submit(meet, one)
        close([first.result(), second.result()])
        assert (first.result().count, second.result().index) == (2, 1)


def test_what_is_no_process_0_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        _zero, one = configs(2, listener.getsockname()[1])
        waiting = pool.submit(met, one)
        accepted, _ = listener.accept()
        accepted.makefile("rb").readline()
        accepted.sendall(b"220 mail\n")
        accepted.close()
        (said,) = lines(waiting.result())
    assert "is no process 0 of this run, or it ended; start all processes again" in said


# --- ending --------------------------------------------------------------------------------------------------------


def test_the_error_of_one_ends_all_with_its_reason_and_code() -> None:
    with groups(3) as found:
        error = DataError("no file\nof that name")
        assert found[1].failed(error) is error
        for other in (found[0], found[2]):
            raised = failure(other.told)
            assert (str(raised), raised.exit_code) == ("process 1 of 3 ended: no file", DataError.exit_code)
            other.failed(raised)


def test_the_error_of_process_0_ends_all() -> None:
    with groups(3) as found:
        found[0].failed(KeyboardInterrupt())
        for other in found[1:]:
            raised = failure(other.told)
            assert (str(raised), raised.exit_code) == ("process 0 of 3 ended: stopped by a signal", 130)
            other.failed(raised)


def test_a_process_that_is_gone_is_missed_at_once() -> None:
    with groups(3) as found:
        found[2]._ending.set()
        found[2]._peers[0]._socket.shutdown(socket.SHUT_RDWR)
        for other in found[:2]:
            raised = failure(other.told)
            assert raised.exit_code == 130
            assert str(raised).startswith("process 2 of 3 is gone, without a word; what was saved before is kept")
            other.failed(raised)


def test_an_error_that_follows_from_anothers_end_is_reported_as_that() -> None:
    with groups(2) as (first, other):
        other.failed(DataError("no file"))
        broken = first.failed(ValueError("a collective lost its peer"))
        assert isinstance(broken, ProcessFailed)
        assert (str(broken), broken.exit_code) == ("process 1 of 2 ended: no file", 3)


def test_an_error_of_its_own_is_its_own() -> None:
    with groups(2) as (first, other):
        other.failed(DataError("no file"))
        first._failed.wait()
        own = UsageError("mine")
        assert first.failed(own) is own


def test_codes_are_those_of_the_command_line() -> None:
    errors = [DataError(""), UsageError(""), ProcessFailed("", 7), KeyboardInterrupt(), ValueError()]
    assert [exit_code(error) for error in errors] == [3, 2, 7, 130, 1]


BLOCKED = """
import json, time
from crh_train import process_group
from crh_train.compose import parse
from crh_train.errors import DataError

group = process_group.meet(parse(json.loads({config!r})))
if group.index == {guilty}:
    group.failed(DataError("no file"))
    group.wait_for_the_others()
    raise SystemExit(0)
time.sleep(100)
"""


@pytest.mark.parametrize("guilty", [0, 1])
def test_a_process_that_waits_where_no_exception_comes_is_ended(guilty: int) -> None:
    whole = configs(2, free_port())
    codes = [BLOCKED.format(config=json.dumps(dataclasses.asdict(each)), guilty=guilty) for each in whole]
    processes = [start_python(code) for code in codes]
    said = [process.communicate(timeout=100)[1].splitlines()[1:] for process in processes]
    assert processes[guilty].returncode == 0, said
    assert processes[1 - guilty].returncode == DataError.exit_code
    assert said[1 - guilty] == [f"error: process {guilty} of 2 ended: no file"]
