from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFiles(CompressedManifestStaticFilesStorage):
    """Hashed names inside JavaScript modules too: a page never mixes the modules of two releases."""

    support_js_module_import_aggregation = True
