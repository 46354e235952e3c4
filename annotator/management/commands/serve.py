"""`manage.py serve`: the whole platform on one machine. Web server, broker, workers and beat under one supervisor."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import http.client
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from annotator.broker import broker_command, broker_url
from annotator.models import Campaign
from annotator.supervisor import Service, Supervisor

STRAGGLER_SECONDS = 15  # what a killed run's children may need to end: a little over the supervisor's grace period
ANSWER_SECONDS = 90
WORKER_NICENESS = 10
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not listened on


class Command(BaseCommand):
    # Django's own checks load every page's code, which is the web server's business: half a second of each start.
    requires_system_checks = ("stepmark",)
    help = (
        "Run web server, broker, workers and beat until Ctrl-C; settings come from the environment (docs/operator.md)."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1", help="address to listen on [HOST]")
        parser.add_argument("--port", default=os.environ.get("PORT") or "8000", help="port, 0 for any free one [PORT]")
        parser.add_argument("--no-demo", action="store_true", help="make no demo campaign in an empty database")

    def handle(self, *, host: str, port: str, no_demo: bool, **options: Any) -> None:
        with lock_folder(settings.DATA_DIR) as lock, claim_address(host, port) as listener:
            with Supervisor(environment=environment(host), pass_fds=[lock.fileno()]) as supervisor:
                supervisor.stop_on_signals()
                if not os.environ.get("BROKER_URL"):
                    supervisor.start(broker())
                prepare(supervisor, demo=not no_demo)
                supervisor.start(web(listener))
                if supervisor.run(until=lambda: answers(listener), timeout=ANSWER_SECONDS):
                    welcome(supervisor, listener)
                for service in workers():  # last: they would only slow the first page down
                    supervisor.start(service)
                supervisor.run()
                supervisor.say("stopping")
            supervisor.say("stopped")


def claim_address(host: str, port: str) -> socket.socket:
    """Bind the address, to listen on later. Raises CommandError if it is taken or no address of this machine."""
    if not port.isdecimal() or int(port) > 65535:
        raise CommandError(f"PORT {port!r} is not a port number.")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise CommandError(f"HOST {host!r} is not an address: {error.strerror}.") from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(place)
    except OSError as error:
        listener.close()
        raise CommandError(
            f"Port {port} on {host} cannot be used: {(error.strerror or str(error)).lower()}. "
            "Choose another one, for instance: make run PORT=8123"
        ) from None
    return listener


def lock_folder(folder: Path) -> IO[str]:
    """Hold the data folder. The children inherit the lock, so it also stands for what a killed run has left behind.

    Raises CommandError if another run holds it, or if a killed run's children do not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / "serve.lock", "a+")  # noqa: SIM115  # the caller closes it
    deadline = time.monotonic() + STRAGGLER_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            if process_exists(holder) or time.monotonic() > deadline:
                lock.close()
                raise CommandError(
                    f"Stepmark already runs on the data folder {folder} (process {holder}). "
                    "Stop it, or choose another folder, for instance: make run PORT=8123 DATA=/some/folder"
                ) from None
            time.sleep(0.2)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def process_exists(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def environment(host: str) -> dict[str, str]:
    """What the children see: the supervisor's own environment, with what it decided for them filled in."""
    given = {name: value for name, value in os.environ.items() if value}
    defaults = {"BROKER_URL": broker_url(settings.DATA_DIR), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if host not in WILDCARDS:
        defaults["ALLOWED_HOSTS"] = ",".join(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", host]))
    path = os.pathsep.join(filter(None, [str(settings.ROOT), os.environ.get("PYTHONPATH")]))
    return {**defaults, **given, "DATA_DIR": str(settings.DATA_DIR), "PYTHONPATH": path}


def broker() -> Service:
    try:
        return Service("broker", broker_command(settings.DATA_DIR), ends_last=True)
    except OSError as error:
        raise CommandError(f"The broker cannot be started: {error}.") from None


def workers() -> list[Service]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    beat_folder = settings.DATA_DIR / "beat"
    beat_folder.mkdir(exist_ok=True)
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "annotator.celery_app"]
    worker = [*celery, "worker", "--pool", "prefork", "--without-gossip", "--without-mingle", "--concurrency"]
    # Two, so that a long import or grading does not hold up the reconciler; a GPU serves one job at a time.
    cpu, gpu = [*worker, "2", "-Q", "default", "-n", "cpu@%h"], [*worker, "1", "-Q", "gpu", "-n", "gpu@%h"]
    for_workers = {
        "REMAP_SIGTERM": "SIGQUIT",  # what a job has done is in its row, so a worker need not finish it before it ends
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",  # the one who ran `serve` as root knows
    }
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))}
    return [
        Service("worker-cpu", cpu, WORKER_NICENESS, for_workers),
        Service("worker-gpu", gpu, WORKER_NICENESS, {**for_workers, **threads}),
        Service("beat", [*celery, "beat", "-s", str(beat_folder / "schedule"), "--pidfile=", "-l", "WARNING"]),
    ]


def web(listener: socket.socket) -> Service:
    options = {
        "bind": f"fd://{listener.fileno()}",
        "worker-class": "gthread",
        "workers": os.environ.get("WEB_CONCURRENCY", "2"),
        "threads": "4",
        "graceful-timeout": "5",
    }
    arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
    gunicorn = [sys.executable, "-m", "gunicorn", "annotator.wsgi:application", "--no-control-socket"]
    return Service("web", [*gunicorn, *arguments], pass_fds=[listener.fileno()])


def prepare(supervisor: Supervisor, *, demo: bool) -> None:
    """Bring database, static files and, in an empty database, the demo up to date; what is already so costs nothing.

    Raises CommandError where a step fails.
    """
    try:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            run_command(supervisor, "migrate", "--noinput")
        fingerprint, file = static_fingerprint(), Path(settings.STATIC_ROOT) / ".fingerprint"
        if not file.exists() or file.read_text() != fingerprint:
            run_command(supervisor, "collectstatic", "--noinput")
            file.write_text(fingerprint)
        # A demo in draft is one whose making was cut short.
        if demo and not Campaign.objects.exclude(slug="demo", status=Campaign.Status.DRAFT).exists():
            run_command(supervisor, "create_demo")
    except DatabaseError as error:
        raise CommandError(f"The database cannot be used: {error}") from None
    finally:
        connection.close()


def run_command(supervisor: Supervisor, *arguments: str) -> None:
    supervisor.say(f"manage.py {' '.join(arguments)}")
    manage = str(settings.ROOT / "manage.py")
    code = supervisor.run_once(Service("setup", [sys.executable, manage, *arguments]))
    if supervisor.stopping.is_set():
        raise SystemExit(0)
    if code != 0:
        raise CommandError(f"`manage.py {arguments[0]}` failed with exit code {code}; its words are above.")


def static_fingerprint() -> str:
    """Changes when a static file, or the way they are stored, does."""
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in finders.get_finders():
        for path, storage in finder.list(None):
            status = os.stat(storage.path(path))
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def reachable(listener: socket.socket) -> tuple[str, int]:
    """Host and port under which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    return WILDCARDS.get(host, host), port


def answers(listener: socket.socket) -> bool:
    """Whether the web server answers anything at all."""
    caller = http.client.HTTPConnection(*reachable(listener), timeout=2)
    try:
        caller.request("GET", "/")
        caller.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        caller.close()
    return True


def welcome(supervisor: Supervisor, listener: socket.socket) -> None:
    host, port = reachable(listener)
    shown = f"[{host}]" if ":" in host else host
    supervisor.say(f"Stepmark is at http://{shown}:{port}/ with its data in {settings.DATA_DIR}; Ctrl-C stops it")
    if listener.getsockname()[0] in WILDCARDS and "ALLOWED_HOSTS" not in os.environ:
        supervisor.say("it listens on every address: set ALLOWED_HOSTS to the names that people will type")
    logins = settings.DATA_DIR / "demo_logins.txt"
    if logins.exists():
        for line in logins.read_text().splitlines():
            supervisor.say(f"demo login: {line}")
