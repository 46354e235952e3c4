"""`manage.py serve` as a newcomer meets it: in a terminal, on a folder of its own, ended in every way there is."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from annotator.broker import LONGEST_SOCKET_PATH, broker_url, socket_path

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [pytest.mark.worker, pytest.mark.slow, pytest.mark.timeout(600)]


class Serve:
    """A `manage.py serve` process on a data folder, and what it printed."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.log = folder.with_suffix(f".{time.monotonic_ns()}.log")
        inherited = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "DATABASE_URL")}
        given = {"DATA_DIR": str(folder), "PORT": "0", "DJANGO_SETTINGS_MODULE": "annotator.settings", **environment}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--no-demo"],
                cwd=ROOT,
                env={**inherited, **given},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.folder = folder

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], object], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.05)

    def wait_until_up(self) -> str:
        """Wait for the address, and for both workers with their pools of two and one; return the address."""
        self.wait_for(lambda: "Stepmark is at" in self.output and len(self.family("worker")) == 5)
        found = re.search(r"http://\S+", self.output)
        assert found is not None
        return found[0]

    def family(self, word: str | None = None) -> list[psutil.Process]:
        """All that runs on this folder, whoever its parent is by now, with this word in its command line.

        Valkey writes its title over its environment; the title names the socket in the folder.
        """
        socket, found = str(socket_path(self.folder)), []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                command = process.cmdline()
                ours = process.environ().get("DATA_DIR") == str(self.folder) or socket in str(command)
                if ours and (word is None or word in command):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def left(self) -> list[psutil.Process]:
        """What does not go away; SIGKILL takes effect after the one who sent it has gone on."""
        deadline = time.monotonic() + 30
        while (family := self.family()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return family

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=90)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    started: list[Serve] = []

    def start(folder: Path = tmp_path / "data", **environment: str) -> Serve:
        started.append(Serve(folder, **environment))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)
    left = [process for each in started for process in each.left()]
    for process in left:
        process.kill()
    assert left == []


def test_one_command_serves_and_one_key_ends_it(serve: Callable[..., Serve]) -> None:
    run = serve()
    with urllib.request.urlopen(run.wait_until_up()) as page:
        assert page.status == 200
    run.wait_for(lambda: set(re.findall(r"^(\S+) +\|", run.output, re.MULTILINE)) >= {"setup", "web", "stepmark"})
    assert run.end(signal.SIGINT) == 0
    assert run.output.endswith("stopped\n")
    assert run.left() == []

    again = serve()
    again.wait_until_up()
    assert "migrate" not in again.output
    assert "collectstatic" not in again.output


def test_a_killed_run_leaves_nothing_and_the_next_one_starts(serve: Callable[..., Serve]) -> None:
    run = serve()
    run.wait_until_up()
    run.end(signal.SIGKILL)
    again = serve()
    again.wait_until_up()
    assert again.end(signal.SIGTERM) == 0
    assert again.left() == []


def test_two_runs_never_share_a_folder(serve: Callable[..., Serve]) -> None:
    first = serve()
    first.wait_for(lambda: (first.folder / "broker").exists())
    second = serve()
    assert second.process.wait(timeout=120) == 1
    assert f"Stepmark already runs on the data folder {first.folder} (process {first.process.pid})" in second.output
    assert len(second.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PORT": "none"}, "PORT 'none' is not a port number."),
        ({"PORT": "70000"}, "PORT '70000' is not a port number."),
        ({"HOST": "no.such.name.invalid"}, "HOST 'no.such.name.invalid' is not an address"),
        ({"HOST": "192.0.2.1"}, "Port 0 on 192.0.2.1 cannot be used"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(
    serve: Callable[..., Serve], environment: dict[str, str], words: str
) -> None:
    run = serve(**environment)
    assert run.process.wait(timeout=120) == 1
    assert words in run.output
    assert len(run.output.splitlines()) == 1


def test_a_port_that_is_taken_stops_everything_before_it_starts(serve: Callable[..., Serve]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run = serve(PORT=port)
        assert run.process.wait(timeout=120) == 1
    assert f"Port {port} on 127.0.0.1 cannot be used: address already in use." in run.output
    assert not (run.folder / "broker").exists()


def test_the_socket_of_a_deep_folder_stays_within_the_limit(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    assert len(os.fsencode(socket_path(deep))) <= LONGEST_SOCKET_PATH
    assert socket_path(deep) != socket_path(tmp_path / ("e" * 120))
    assert broker_url(Path("/srv/step mark")) == "redis+socket:///srv/step%20mark/broker/valkey.sock"
