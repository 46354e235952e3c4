"""Public PRMs, each read as its authors read it.

    from prm_backend import adapters

    prm = adapters.load("Qwen/Qwen2.5-Math-PRM-7B", "qwen2.5-math-prm")
    for key, scores in prm.score(solutions):
        ...

Adapters and presets are plain data; only `load` needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prm_backend.adapters.presets import PRESETS, adapter
from prm_backend.adapters.spec import Adapter

if TYPE_CHECKING:
    from prm_backend.adapters.loaders import LoadedPrm, load

__all__ = ["PRESETS", "Adapter", "LoadedPrm", "adapter", "load"]


def __getattr__(name: str) -> Any:
    if name in ("LoadedPrm", "load"):
        from prm_backend.adapters import loaders

        return getattr(loaders, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
