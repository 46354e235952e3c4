"""A supervisor for the processes of one machine: starts them, restarts what crashes, and leaves nothing behind.

Each child leads a session of its own, so that a Ctrl-C reaches the supervisor alone and a whole family can be ended. A
second small process (`reaper.py`) does the ending where the supervisor itself is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Self

REAPER = Path(__file__).with_name("reaper.py")
TICK_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
LAST_WORDS_SECONDS = 1.0  # a pipe can stay open longer, in a descendant with a session of its own
STEADY_SECONDS = 60.0  # a process that ran this long has started well; its next crash counts as the first


@dataclass(frozen=True)
class Service:
    """A process to keep running. `ends_last` marks what the others need to end well; `pass_fds` stay open in it."""

    name: str
    command: Sequence[str]
    niceness: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    ends_last: bool = False
    pass_fds: Sequence[int] = ()


@dataclass
class Child:
    """A service's present process (none while it waits to be restarted), since when, and its crashes in a row."""

    service: Service
    process: subprocess.Popen[bytes] | None
    since: float
    crashes: int = 0


class Supervisor:
    """As a context manager: no child outlives the block. `pass_fds` stay open in every child."""

    def __init__(self, *, environment: Mapping[str, str], pass_fds: Sequence[int] = (), grace: float = 10.0) -> None:
        self.environment = environment
        self.pass_fds = pass_fds
        self.grace = grace
        self.stopping = threading.Event()
        self.children: list[Child] = []
        self._output = threading.Lock()
        self._relays: dict[int, threading.Thread] = {}
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(REAPER), str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._reaper.communicate()

    def stop_on_signals(self) -> None:
        """End `run` at Ctrl-C, SIGTERM or a closed terminal. More of them change nothing: `stop` has its own limit."""

        def request_stop(number: int, frame: FrameType | None) -> None:
            self.stopping.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, request_stop)

    def say(self, text: str, name: str = "stepmark") -> None:
        """Print one prefixed line. A reader who has gone away ends the run rather than block the children."""
        with self._output:
            try:
                print(f"{name:<10} | {text}", flush=True)
            except OSError:
                self.stopping.set()

    def start(self, service: Service) -> None:
        self.children.append(Child(service, self._launch(service), time.monotonic()))

    def run_once(self, service: Service) -> int:
        """Run a command to its end and return its exit code; it is ended early when the supervisor is."""
        process = self._launch(service)
        try:
            while not has_ended(process) and not self.stopping.wait(TICK_SECONDS):
                pass
        finally:
            if not has_ended(process):
                process.terminate()
                wait_for([process], self.grace)
            code = self._end(process)
        return code

    def run(self, until: Callable[[], bool] = lambda: False, timeout: float | None = None) -> bool:
        """Keep all services running until the condition holds (True), the time is over or a stop is asked for."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.stopping.is_set():
            for child in self.children:
                self._tend(child)
            if until():
                return True
            if deadline is not None and time.monotonic() > deadline:
                break
            self.stopping.wait(TICK_SECONDS)
        return False

    def stop(self) -> None:
        """End all services: SIGTERM, then SIGKILL after the grace period; those marked `ends_last` after the others."""
        for last in (False, True):
            running = [c.process for c in self.children if c.service.ends_last is last and c.process is not None]
            for process in running:
                process.terminate()
            wait_for(running, self.grace)
            for process in running:
                self._end(process)
        self.children.clear()

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now - child.since >= self._pause(child):
                child.process, child.since = self._launch(child.service), now
        elif has_ended(child.process):
            code, child.process = self._end(child.process), None
            child.crashes = 1 if now - child.since > STEADY_SECONDS else child.crashes + 1
            child.since = now
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self.say(f"{child.service.name} {how}; it restarts in {self._pause(child):.0f} s")

    @staticmethod
    def _pause(child: Child) -> float:
        return float(min(LONGEST_PAUSE_SECONDS, 2 ** (child.crashes - 1)))

    def _launch(self, service: Service) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.environment, **service.environment},
            pass_fds=[*self.pass_fds, *service.pass_fds],
            start_new_session=True,
        )
        self._tell_reaper(f"+ {process.pid}{' last' if service.ends_last else ''}")
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, os.nice(0) + service.niceness)
        assert process.stdout is not None
        relay = threading.Thread(target=self._relay, args=(service.name, process.stdout), daemon=True)
        relay.start()
        self._relays[process.pid] = relay
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        code = end_family(process)
        self._relays.pop(process.pid).join(LAST_WORDS_SECONDS)
        self._tell_reaper(f"- {process.pid}")
        return code

    def _tell_reaper(self, line: str) -> None:
        assert self._reaper.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed too; there is nobody left to mind that
            self._reaper.stdin.write(f"{line}\n".encode())
            self._reaper.stdin.flush()

    def _relay(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self.say(line.decode(errors="replace").rstrip(), name)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended, without collecting it: until then its process group's number stays its own."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait_for(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Return when all have ended or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(has_ended(process) for process in processes):
        time.sleep(TICK_SECONDS / 2)


def end_family(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of the process and of the group it leads; collect it and return its exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies may not be signalled
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
