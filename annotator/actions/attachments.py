"""Images of problems, kept by content: the same bytes are one file, whoever brought them. A file never changes, and an
import that is undone leaves it."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

from prm_backend.types import AttachedImage


def image_file(sha256: str) -> Path:
    return Path(settings.DATA_DIR) / "files" / "attachments" / sha256


def store_image(image: AttachedImage) -> None:
    """Raises `OSError`."""
    target = image_file(image.sha256)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(image.data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)
