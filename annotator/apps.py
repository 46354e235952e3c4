from __future__ import annotations

import sqlite3
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class AnnotatorConfig(AppConfig):
    name = "annotator"
    verbose_name = "Stepmark"

    def ready(self) -> None:
        from annotator import checks  # noqa: F401  # registers the system checks

        connection_created.connect(ask_sqlite_for_its_limit)


def ask_sqlite_for_its_limit(connection: Any, **_: Any) -> None:
    """Django cuts a bulk insert after 999 values, which was SQLite's limit until 2020; the library says its own."""
    if connection.vendor == "sqlite":
        limit = connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        connection.features.max_query_params = limit
