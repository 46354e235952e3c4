from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import FileSystemFinder
from whitenoise.storage import CompressedManifestStaticFilesStorage


class ChosenFiles(FileSystemFinder):
    """Of an npm package, only the files that pages load are collected: the rest is megabytes, and imports named in the
    comments of readable builds cannot be renamed."""

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Any]]:
        for path, storage in super().list(ignore_patterns):
            _, patterns = settings.VENDORED.get(storage.prefix, (None, ["*"]))
            if any(fnmatch(path, pattern) for pattern in patterns):
                yield path, storage


class HashedStaticFiles(CompressedManifestStaticFilesStorage):
    """Hashed names inside JavaScript modules too: a page never mixes the modules of two releases."""

    support_js_module_import_aggregation = True
    max_post_process_passes = 20  # one for each module in the longest chain of imports
