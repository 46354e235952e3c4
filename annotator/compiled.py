"""Queries that the ORM turns into SQL once. For the few that come with every act of every labeler, turning them takes
several times as long as running them (docs/decisions/0011-compiled-queries.md)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Field, QuerySet, Value
from django.db.models.sql.compiler import SQLCompiler


class Slot(Value):
    """Stands for a value that is given later."""

    def __init__(self, number: int, field: Field[Any, Any]) -> None:
        super().__init__(None, output_field=field)
        self.number, self.kind = number, field

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> Any:
        return "%s", [self]


class Compiled:
    """`Compiled(build, *fields)`: `build` takes a stand-in for a value of each field, for use in `filter()`, and
    returns a queryset. What comes back is what that queryset gives: instances with their `select_related` rows, or rows
    of values. Nothing is prefetched."""

    def __init__(self, build: Callable[..., Any], *fields: Field[Any, Any]) -> None:
        self._build, self._fields = build, fields
        self._prepared: tuple[Any, SQLCompiler, str, tuple[Any, ...]] | None = None

    def all(self, *values: Any) -> list[Any]:
        """Everything that is found, for values in the order of the fields."""
        queryset, compiler, sql, parameters = self._prepared or self._prepare()
        connection = connections[DEFAULT_DB_ALIAS]
        filled = tuple(
            part.kind.get_db_prep_value(values[part.number], connection) if isinstance(part, Slot) else part
            for part in parameters
        )
        bound: Any = QuerySet(queryset.model)
        bound.query = _Ready(queryset.query, compiler, connection, sql, filled)
        bound._fields = queryset._fields
        return list(queryset._iterable_class(bound))

    def first(self, *values: Any) -> Any:
        """The first that is found, or None."""
        return next(iter(self.all(*values)), None)

    def _prepare(self) -> tuple[Any, SQLCompiler, str, tuple[Any, ...]]:
        queryset = self._build(*(Slot(number, field) for number, field in enumerate(self._fields)))
        compiler = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        sql, parameters = compiler.as_sql()
        self._prepared = queryset, compiler, sql, tuple(parameters)
        return self._prepared


class _Ready:
    """A queryset's query whose SQL is there already."""

    def __init__(self, query: Any, compiler: SQLCompiler, connection: Any, sql: str, parameters: Any) -> None:
        self._query, self._compiler = query, copy.copy(compiler)
        self._compiler.connection = connection  # each thread has its own
        self._compiler.as_sql = lambda *_, **__: (sql, parameters)  # type: ignore[method-assign]

    def get_compiler(self, using: str | None = None, *_: Any) -> SQLCompiler:
        return self._compiler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._query, name)
