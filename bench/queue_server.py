"""What is measured: the web server as `manage.py serve` starts it, its database, and what both use of the machine."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests import services

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_SECONDS = 60


@dataclass(frozen=True)
class Database:
    """`folder` is where it lies; `pid` its process, where it has one."""

    kind: str
    version: str
    url: str
    pid: int | None = None


@dataclass(frozen=True)
class Web:
    host: str
    port: int
    pid: int
    start_seconds: float

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[Database]:
    """An empty database that keeps what it has acknowledged through a power cut."""
    if kind == "sqlite":
        yield Database(kind, sqlite3.sqlite_version, f"sqlite:///{folder / 'bench.sqlite3'}")
        return
    with services.postgres(durable=True) as url:
        import psycopg

        with psycopg.connect(url.replace("postgres://", "postgresql://")) as connection:
            version = connection.execute("SHOW server_version").fetchone()
            durable = connection.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
            assert durable.fetchone() == ("on", "on")
            assert version is not None
            files = connection.execute("SHOW data_directory").fetchone()
            assert files is not None
        pid = int((Path(files[0]) / "postmaster.pid").read_text().split()[0])
        yield Database(kind, str(version[0]), url, pid)


def environment(folder: Path, url: str) -> dict[str, str]:
    """What `manage.py serve` gives its children (`serve.environment`), with a data folder of our own."""
    given = {name: value for name, value in os.environ.items() if name not in ("BROKER_URL", "WEB_CONCURRENCY")}
    return given | {
        "DATA_DIR": str(folder),
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "LOG_LEVEL": "WARNING",
    }


def manage(arguments: list[str], env: Mapping[str, str]) -> None:
    run([str(ROOT / "manage.py"), *arguments], env)


def run(arguments: list[str], env: Mapping[str, str], stdin: str | None = None) -> str:
    """The output of a Python program of ours. Raises RuntimeError with its words if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def web(folder: Path, url: str) -> Iterator[Web]:
    """Gunicorn by the very command that `manage.py serve` uses, up to its first page."""
    from annotator.management.commands.serve import web as web_service

    env, log = environment(folder, url), folder / "web.log"
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        service, port = web_service(listener), listener.getsockname()[1]
        started = time.monotonic()
        with open(log, "ab") as output:
            child = subprocess.Popen(
                service.command,
                pass_fds=service.pass_fds,
                env={**env, **service.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
    try:
        yield Web(HOST, port, child.pid, first_page(child, port, started, log))
    finally:
        child.terminate()
        child.wait()


def start_of_everything(folder: Path, url: str) -> float:
    """Seconds from `manage.py serve` (web server, broker, workers, beat) to its first page."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "manage.py"), "serve", "--no-demo", "--port", str(port)]
    env, log = environment(folder, url), folder / "serve.log"
    started = time.monotonic()
    with open(log, "ab") as output:
        child = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        return first_page(child, port, started, log)
    finally:
        child.terminate()
        child.wait()


def first_page(child: subprocess.Popen[bytes], port: int, started: float, log: Path) -> float:
    """Seconds from `started` until the login page comes."""
    while time.monotonic() < started + START_SECONDS and child.poll() is None:
        caller = http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)
        try:
            caller.request("GET", "/accounts/login/")
            if caller.getresponse().status == 200:
                return time.monotonic() - started
        except (OSError, http.client.HTTPException):
            pass
        finally:
            caller.close()
        time.sleep(0.01)
    raise RuntimeError(f"The web server does not answer:\n{log.read_text()}")


def family_cpu(pid: int | None) -> float:
    """CPU seconds so far of a process and all its descendants, ended ones included."""
    if pid is None:
        return 0.0
    parent = psutil.Process(pid)
    times = parent.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            own = child.cpu_times()
            total += own.user + own.system
    return total


def machine() -> dict[str, Any]:
    import gunicorn
    from django import get_version

    name = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607  found on PATH, as a person finds it
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": name.partition(":")[2].strip(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_before": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "django": get_version(),
        "gunicorn": gunicorn.__version__,
        "commit": commit.stdout.strip(),
    }
