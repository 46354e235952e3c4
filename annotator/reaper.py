"""Run as a script beside the supervisor: ends what a supervisor that was killed has left behind.

usage: reaper.py GRACE_SECONDS

Standard input says which process groups there are, one line each: `+ PID`, `+ PID last` for one that the others need to
end well, `- PID` for one that is gone. The end of the input is the end of the supervisor, however it came.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection


def main() -> None:
    grace = float(sys.argv[1])
    ends_last: dict[int, bool] = {}
    for line in sys.stdin:
        sign, pid, *last = line.split()
        if sign == "+":
            ends_last[int(pid)] = bool(last)
        else:
            ends_last.pop(int(pid), None)
    for turn in (False, True):
        end([pid for pid, last in ends_last.items() if last is turn], grace)


def end(groups: Collection[int], grace: float) -> None:
    """SIGTERM to the leaders, and SIGKILL to what is left of their groups after the grace period."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(map(exists, groups)):
        time.sleep(0.05)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: a group of zombies may not be signalled
        return False
    return True


if __name__ == "__main__":
    main()
