"""The supervisor, in a process of its own as it is used, with small programs in place of the real services."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from annotator.supervisor import Service, Supervisor

pytestmark = pytest.mark.xdist_group("worker")  # it measures time: no workers beside it

ROOT = Path(__file__).resolve().parent.parent
SUPERVISOR = """
import json, os, sys
from annotator.supervisor import Service, Supervisor
with Supervisor(environment=dict(os.environ), grace=1.0) as supervisor:
    supervisor.stop_on_signals()
    for service in json.loads(sys.argv[1]):
        supervisor.start(Service(**service))
    supervisor.run()
supervisor.say("stopped")
"""
STEADY = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STEADY}"
FAMILY = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {DEAF!r}]); {STEADY}"
TELLS_ITS_END = """
import os, signal, sys, time
def end(*_):
    time.sleep({seconds})
    os.write(1, f"down {{time.monotonic()}}\\n".encode())  # print is not to be interrupted by itself
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", os.getpid(), flush=True)
time.sleep(600)
"""


class Run:
    """A supervisor with its services, and what it printed."""

    def __init__(self, log: Path, programs: dict[str, str], options: dict[str, dict[str, object]]) -> None:
        services = [
            {"name": name, "command": [sys.executable, "-c", program], **options.get(name, {})}
            for name, program in programs.items()
        ]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR, json.dumps(services)],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def pids(self) -> list[int]:
        return [int(number) for number in re.findall(r"\| up (\d+)", self.output)]

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def wait_until_gone(self, pids: list[int]) -> None:
        """SIGKILL takes effect after the one who sent it has gone on."""
        self.wait_for(lambda: not any(alive(pid) for pid in pids))

    def wait_for_processes(self, count: int) -> list[int]:
        self.wait_for(lambda: len(self.pids()) == count)
        return self.pids()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not collected yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(options: dict[str, dict[str, object]] | None = None, **programs: str) -> Run:
        runs.append(Run(tmp_path / f"log-{len(runs)}", programs, options or {}))
        return runs[-1]

    yield start
    for run in runs:
        run.process.kill()
        run.process.wait()
        for pid in filter(alive, run.pids()):
            os.kill(pid, signal.SIGKILL)


def test_each_line_carries_the_name_of_its_service(supervise: Callable[..., Run]) -> None:
    run = supervise(web=STEADY, beat="print('tick', flush=True); import time; time.sleep(600)")
    run.wait_for(lambda: "tick" in run.output and run.pids())
    assert sorted(run.output.splitlines()) == ["beat       | tick", f"web        | up {run.pids()[0]}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_even_what_does_not_listen(supervise: Callable[..., Run], number: int) -> None:
    run = supervise(web=STEADY, worker=FAMILY)
    pids = run.wait_for_processes(3)
    run.process.send_signal(number)
    assert run.process.wait(timeout=60) == 0
    assert run.output.endswith("stopped\n")
    run.wait_until_gone(pids)


def test_an_impatient_second_signal_leaves_nothing_behind(supervise: Callable[..., Run]) -> None:
    run = supervise(worker=FAMILY)
    pids = run.wait_for_processes(2)
    for _ in range(3):  # well within the second that the deaf are given
        run.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert run.process.wait(timeout=60) == 0
    run.wait_until_gone(pids)


def test_everything_ends_when_the_supervisor_is_killed(supervise: Callable[..., Run]) -> None:
    run = supervise({"broker": {"ends_last": True}}, broker=STEADY, web=STEADY, worker=FAMILY)
    pids = run.wait_for_processes(4)
    run.process.kill()
    run.wait_until_gone(pids)


def test_a_crashed_service_restarts_after_a_pause_that_grows(supervise: Callable[..., Run]) -> None:
    run = supervise(web=STEADY, worker="import os; print('up', os.getpid(), flush=True); os._exit(3)")
    run.wait_for_processes(4)
    said = [line for line in run.output.splitlines() if line.startswith("stepmark")]
    assert said[:2] == [
        "stepmark   | worker ended with exit code 3; it restarts in 1 s",
        "stepmark   | worker ended with exit code 3; it restarts in 2 s",
    ]


def test_a_crash_takes_the_rest_of_the_family_with_it(supervise: Callable[..., Run]) -> None:
    run = supervise(web=FAMILY)
    first = run.wait_for_processes(2)
    leader = next(pid for pid in first if os.getpgid(pid) == pid)
    os.kill(leader, signal.SIGKILL)
    run.wait_for(lambda: "web was ended by signal 9; it restarts in 1 s" in run.output)
    run.wait_until_gone(first)
    run.wait_for_processes(4)


def test_the_broker_outlives_those_that_need_it(supervise: Callable[..., Run]) -> None:
    programs = {"broker": TELLS_ITS_END.format(seconds=0), "worker": TELLS_ITS_END.format(seconds=0.2)}
    run = supervise({"broker": {"ends_last": True}}, **programs)
    run.wait_for_processes(2)
    run.process.terminate()
    assert run.process.wait(timeout=60) == 0
    ended = dict(re.findall(r"^(\w+) +\| down ([\d.]+)$", run.output, re.MULTILINE))
    assert float(ended["worker"]) < float(ended["broker"])


def test_workers_yield_to_the_web_server(supervise: Callable[..., Run]) -> None:
    program = "import os, time; print('nice', os.nice(0), flush=True); time.sleep(600)"
    run = supervise({"worker": {"niceness": 7}}, web=program, worker=program)
    run.wait_for(lambda: run.output.count("nice") == 2)
    assert sorted(run.output.splitlines()) == [
        f"web        | nice {os.nice(0)}",
        f"worker     | nice {min(19, os.nice(0) + 7)}",
    ]


def test_nobody_reading_the_output_ends_the_run() -> None:
    chatter = {"name": "web", "command": [sys.executable, "-c", "while True: print('x' * 1000, flush=True)"]}
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, json.dumps([chatter])], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"web ")
    process.stdout.close()
    process.wait(timeout=60)


def test_a_command_runs_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Supervisor(environment=os.environ) as supervisor:
        assert supervisor.run_once(Service("setup", [sys.executable, "-c", "import sys; sys.exit(4)"])) == 4
        assert supervisor.run_once(Service("setup", [sys.executable, "-c", "pass"])) == 0
