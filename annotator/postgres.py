"""How this project's statements reach PostgreSQL: with their values beside them, so that the server keeps the plans."""

from __future__ import annotations

from typing import Any, Self

from django.db.backends.postgresql.base import ServerBindingCursor
from psycopg import ClientCursor, Cursor

# The protocol counts a statement's values in 16 bits.
MOST_VALUES = 65_535


class PreparingCursor(ServerBindingCursor, Cursor[Any]):
    """Sends a statement with more values than the protocol carries as one text, as Django does with all: long lists of
    keys and bulk inserts need no plan to be kept."""

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        if params is not None and len(params) > MOST_VALUES:
            query, params = ClientCursor(self.connection).mogrify(query, params), None
        return super().execute(query, params, prepare=prepare, binary=binary)
