"""Any PRM from the command line: a checkpoint of ours, or a public one with its adapter."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prm_backend.adapters import Adapter, adapter
from prm_backend.cli.files import json_file, quiet_transformers
from prm_backend.errors import PrmError
from prm_backend.types import ReportProgress, Solution, StepScores

if TYPE_CHECKING:
    from prm_backend.passages import StepReader, TooLong

KEY_VARIABLE = "OPENAI_API_KEY"


class Prm(Protocol):
    def score(
        self, solutions: Iterable[Solution], *, progress: ReportProgress, total: int | None = None
    ) -> Iterator[tuple[str, StepScores]]: ...


def add_prm(made: argparse.ArgumentParser) -> None:
    """The arguments that say which PRM, and how it is run."""
    made.add_argument("prm", type=Path, help="a checkpoint folder; with --adapter the folder of a public PRM")
    made.add_argument("--adapter", help="how a public PRM is read: a name (see `adapters list`) or a JSON file")
    made.add_argument("--base", type=Path, help="the base model of a LoRA adapter, or the reference of an implicit PRM")
    made.add_argument("--cache", type=Path, help="folder for what was computed, which makes the next run quick")
    made.add_argument("--too-long", choices=["error", "window"], help="solutions longer than the model reads")
    made.add_argument("--endpoint", help=f"generative PRMs: an OpenAI-compatible address; the key is in {KEY_VARIABLE}")
    made.add_argument("--model", help="generative PRMs: the model's name at the endpoint")


def open_prm(options: argparse.Namespace) -> Prm:
    """Raises `PrmError` for what cannot be loaded."""
    if options.adapter:
        return public_prm(adapter_of(options.adapter), options)
    for name in ("base", "endpoint", "model"):
        if getattr(options, name):
            raise PrmError(f"--{name} belongs to a public PRM: name its adapter, too")
    from prm_backend.checkpoints import read_metadata

    kind = read_metadata(options.prm).get("kind")
    quiet_transformers()
    if kind == "full":
        from prm_backend.own import OwnPrm

        own = OwnPrm.load(options.prm)
        assert own.metadata is not None
        return Reader(own, own.metadata.digest, options, own.layout.as_dict(), "error")
    if options.too_long == "window":
        raise PrmError("--too-long window is for whole models; step heads on a frozen backbone read whole solutions")
    from prm_backend.scoring import Scorer

    return Scorer.load(options.prm, cache_dir=options.cache)


def adapter_of(name: str) -> Adapter:
    return Adapter.from_dict(json_file(Path(name))) if name.endswith(".json") else adapter(name)


def public_prm(chosen: Adapter, options: argparse.Namespace) -> Prm:
    if chosen.head == "none" and options.cache:
        raise PrmError(f"--cache: adapter {chosen.name} has no scores on single steps that could be kept")
    if chosen.head == "none" and options.too_long == "window":
        raise PrmError(f"--too-long window: adapter {chosen.name} reads solutions whole")
    if options.endpoint or chosen.readout == "generative":
        return generative_prm(chosen, options)
    quiet_transformers()
    if chosen.readout == "log_ratio":
        from prm_backend.adapters.implicit import ImplicitPrm

        return ImplicitPrm.load(options.prm, chosen, reference=options.base or "")
    from prm_backend import adapters

    loaded = adapters.load(options.prm, chosen, base=options.base or "")
    digest = loaded.digest() if options.cache else ""
    return Reader(loaded, digest, options, loaded.adapter.as_dict(), loaded.adapter.too_long)


def generative_prm(chosen: Adapter, options: argparse.Namespace) -> Prm:
    from prm_backend.adapters.generative import GenerativePrm

    if not options.endpoint:
        quiet_transformers()
        return GenerativePrm.load(options.prm, chosen)
    from prm_backend.sampling import EndpointSource

    if not options.model:
        raise PrmError("--endpoint needs --model: the name that the server knows the model by")
    source = EndpointSource(options.endpoint, options.model, os.environ.get(KEY_VARIABLE, ""))
    return GenerativePrm.at_endpoint(chosen, source)


class Reader:
    """A step reader behind the face of a PRM: scored by the engine, with a cache where one is wanted."""

    def __init__(
        self,
        reader: StepReader,
        digest: str,
        options: argparse.Namespace,
        read_as: Mapping[str, object],
        too_long: TooLong,
    ) -> None:
        from prm_backend.score_cache import ScoreCache

        self.reader = reader
        self.too_long: TooLong = options.too_long or too_long
        self.cache = ScoreCache(options.cache, checkpoint=digest, adapter=read_as) if options.cache else None

    def score(
        self, solutions: Iterable[Solution], *, progress: ReportProgress, total: int | None = None
    ) -> Iterator[tuple[str, StepScores]]:
        from prm_backend import engine

        return engine.score(
            self.reader, solutions, cache=self.cache, progress=progress, total=total, too_long=self.too_long
        )
