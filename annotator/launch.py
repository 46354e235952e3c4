"""Run as a script: lower this process's priority, tie its life to its parent's, and become the given program.

usage: launch.py PARENT_PID NICENESS PROGRAM [ARGUMENT ...]

A separate small program, because the supervisor has threads and code between fork and exec must not run beside them.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, niceness, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the supervisor is gone")
    os.nice(int(niceness))
    os.execvp(command[0], command)  # noqa: S606  # becoming the program, without a shell, is the point


if __name__ == "__main__":
    main()
