"""The command line: files of solutions in, checkpoints, scores, figures and choices out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from prm_backend.cli import learn, measure, score, show
from prm_backend.errors import PrmError

ABOUT = "Train, run and measure process reward models."
ORDER = """a usual order:
  python -m prm_backend generate --problems 4000 pool.jsonl        something to try things on
  python -m prm_backend pretrain pool.jsonl checkpoints/cold       a PRM without any label
  python -m prm_backend score checkpoints/cold pool.jsonl --out scores.jsonl
  python -m prm_backend select pool.jsonl --scores scores.jsonl --count 100
  python -m prm_backend train checkpoints/cold labels.jsonl checkpoints/first
  python -m prm_backend evaluate checkpoints/first test.jsonl --train labels.jsonl --report figures/

`COMMAND --help` says more. Exit code: 0 done, 1 an error that a person can mend (one line on stderr), 2 wrong usage."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    # Read when torch is loaded: threads that spin for long make a busy machine crawl (docs/experiments.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        code: int | None = options.run(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (PrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return code or 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m prm_backend",
        description=ABOUT,
        epilog=ORDER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="command")
    for family in (score, learn, measure, show):
        family.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
