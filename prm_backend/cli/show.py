"""`adapters`, `generate` and `convert`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prm_backend.adapters import PRESETS
from prm_backend.cli.files import FORMATS_READ, Commands, command, output, quiet_transformers, records
from prm_backend.cli.prms import adapter_of
from prm_backend.errors import PrmError
from prm_backend.formats import FORMATS, written_lines


def add(commands: Commands) -> None:
    made = command(
        commands,
        "adapters",
        list_adapters,
        "How public PRMs are read: list them, show one as JSON, or check a downloaded checkpoint against its card.",
        "adapters check models/Qwen2.5-Math-PRM-7B qwen2.5-math-prm",
    )
    actions = made.add_subparsers(metavar="list|show|check")
    actions.add_parser("list", help="the names, what they read, and where they come from").set_defaults(
        run=list_adapters
    )
    shown = actions.add_parser("show", help="one adapter as JSON, to be changed and given to --adapter as a file")
    shown.add_argument("name")
    shown.set_defaults(run=show_adapter)
    checked = actions.add_parser("check", help="does this folder hold what the adapter says, and the card's numbers?")
    checked.add_argument("folder", type=Path)
    checked.add_argument("name", help="an adapter's name or a JSON file")
    checked.add_argument("--base", type=Path, help="the base model of a LoRA adapter")
    checked.set_defaults(run=check_adapter)

    made = command(
        commands,
        "generate",
        generate,
        "Write made-up word problems with labeled solutions, to try things on.",
        "generate pool.jsonl --problems 4000",
    )
    made.add_argument("out", type=Path, help="JSONL file to write")
    made.add_argument("--problems", type=int, default=4000, help="distinct problems (default: %(default)s)")
    made.add_argument("--solutions", type=int, default=2, help="solutions for each problem (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0)

    made = command(
        commands,
        "convert",
        convert,
        "Convert files of labeled solutions, or checkpoints to and from the folder of TRL's PRMTrainer.",
        "convert labels.jsonl labels-trl.jsonl --to trl\n"
        "  python -m prm_backend convert checkpoints/tuned models/for-trl --to trl\n"
        "  python -m prm_backend convert models/from-trl checkpoints/imported --from-trl --separator '\\n'",
    )
    made.add_argument("source", type=Path, help=f"a file ({FORMATS_READ}), a checkpoint folder, or a TRL folder")
    made.add_argument("out", type=Path, help="file or folder to write")
    made.add_argument("--to", choices=[name for name, known in FORMATS.items() if known.write], help="format to write")
    made.add_argument("--from-trl", action="store_true", help="the source is a folder that PRMTrainer wrote")
    made.add_argument("--separator", help="--from-trl: what stood behind each step in training (\\n for a line break)")


def list_adapters(_options: argparse.Namespace) -> None:
    width = max(map(len, PRESETS))
    for name, chosen in sorted(PRESETS.items()):
        print(f"{name:{width}}  {chosen.readout:12}  {chosen.source}")


def show_adapter(options: argparse.Namespace) -> None:
    print(json.dumps(adapter_of(options.name).as_dict(), indent=2, ensure_ascii=False))


def check_adapter(options: argparse.Namespace) -> int:
    """Exit code 1 where something is wrong."""
    from prm_backend.adapters.verify import verify

    quiet_transformers()
    found = verify(options.folder, adapter_of(options.name), base=options.base or "")
    print(found)
    return 0 if found.ok else 1


def generate(options: argparse.Namespace) -> None:
    from prm_backend.synthetic import generate_rows

    with output(options.out) as file:
        for row in generate_rows(problems=options.problems, solutions_per_problem=options.solutions, seed=options.seed):
            file.write(json.dumps(row) + "\n")


def convert(options: argparse.Namespace) -> None:
    if options.from_trl == bool(options.to):
        raise PrmError("say what to make: --to a format, or --from-trl")
    if options.from_trl:
        from prm_backend.trl_layout import from_trl

        if not options.separator:
            raise PrmError("--from-trl needs --separator: a wrong one gives plausible numbers in silence")
        quiet_transformers()
        from_trl(options.source, options.out, separator=options.separator.replace("\\n", "\n"))
    elif options.source.is_dir():
        if options.to != "trl":
            raise PrmError(f"a checkpoint is converted to trl, not to {options.to}")
        from prm_backend.trl_layout import to_trl

        quiet_transformers()
        to_trl(options.source, options.out)
    else:
        with output(options.out) as file:
            file.writelines(written_lines(records([options.source]), format=options.to))
