"""The admin: for looking, and for accounts. What happened is never edited here; actions write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.decorators import login_required
from django.db.models import Model
from django.http import HttpRequest

from annotator.models import (
    AuditEvent,
    Campaign,
    Checkpoint,
    DatasetVersion,
    Generation,
    ImportRun,
    Job,
    Membership,
    User,
)

# Generic for the type checker only.
if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    BaseUserAdmin = UserAdmin[User]
else:
    ModelAdmin, BaseUserAdmin = admin.ModelAdmin, UserAdmin

admin.site.site_header = admin.site.site_title = "Stepmark"
# One login for the whole site: its limit on wrong guesses holds here too.
admin.site.login = login_required(admin.site.login)  # type: ignore[method-assign]


class ReadOnly(ModelAdmin):
    """Lists and shows."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(User)
class PeopleAdmin(BaseUserAdmin):
    list_display = ("username", "email", "is_staff", "is_active", "must_change_password", "last_login")


@admin.register(Campaign)
class CampaignAdmin(ReadOnly):
    list_display = ("slug", "name", "status", "phase", "simulated", "created_at")


@admin.register(Membership)
class MembershipAdmin(ReadOnly):
    list_display = ("user", "campaign", "role", "state")
    list_filter = ("role", "state")


@admin.register(Job)
class JobAdmin(ReadOnly):
    list_display = ("id", "campaign", "kind", "state", "attempt", "created_at", "finished_at")
    list_filter = ("kind", "state")


@admin.register(ImportRun)
class ImportRunAdmin(ReadOnly):
    list_display = ("file_name", "campaign", "format", "state", "created_at")


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly):
    list_display = ("at", "actor", "verb", "subject", "campaign")
    list_filter = ("verb",)


@admin.register(Generation)
class GenerationAdmin(ReadOnly):
    list_display = ("campaign", "number", "checkpoint", "opened_at", "closed_at")


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnly):
    list_display = ("campaign", "number", "kind", "state", "labelings", "created_at")


@admin.register(DatasetVersion)
class DatasetVersionAdmin(ReadOnly):
    list_display = ("campaign", "number", "sha256", "created_at")
