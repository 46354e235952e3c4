"""Whose request it is: Django's own sessions and users, read by queries that are compiled once."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.db.models import BigIntegerField, CharField, DateTimeField
from django.utils import timezone

from annotator.compiled import Compiled
from annotator.models import User

_SESSION = Compiled(
    lambda key, now: Session.objects.filter(session_key=key, expire_date__gt=now), CharField(), DateTimeField()
)
_USER = Compiled(lambda pk: User.objects.filter(pk=pk), BigIntegerField())


class SessionStore(db.SessionStore):
    def _get_session_from_db(self) -> Session | None:
        session: Session | None = _SESSION.first(self.session_key, timezone.now())
        if session is None:
            self._session_key = None
        return session


class UserBackend(ModelBackend):
    def get_user(self, user_id: Any) -> User | None:
        user: User | None = _USER.first(user_id)
        return user if user is not None and self.user_can_authenticate(user) else None
