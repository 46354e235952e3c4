"""Measure the queue over real HTTP: `python bench/queue.py --json figures.json` (what it does: bench/queue_run.py).

The programs of this folder run with it at the head of the module path, where this file hides the standard library's
`queue`. So it takes the folder off the path when it is run, and hands the name over when it is imported.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from bench.queue_run import main

    sys.exit(main())
elif __name__ == "queue":
    hidden_by = sys.path.pop(0)
    del sys.modules["queue"]
    import queue  # noqa: F401  the real one takes its place

    sys.path.insert(0, hidden_by)
