"""Bad configuration is a numbered message from `manage.py check`, never a traceback later."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register("stepmark")
def check_data_folder(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.DATA_DIR_PROBLEM:
        return [Error(settings.DATA_DIR_PROBLEM, hint="Set DATA_DIR.", id="annotator.E001")]
    return []


@register("stepmark")
def check_database_engine(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    engine = settings.DATABASES["default"]["ENGINE"]
    if engine not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        return [Error(f"DATABASE_URL asks for {engine}; Stepmark runs on PostgreSQL or SQLite.", id="annotator.E002")]
    return []


@register("stepmark")
def check_broker(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    url = settings.CELERY_BROKER_URL
    if url and not url.startswith(("redis://", "rediss://", "redis+socket://", "memory://")):
        return [Error(f"BROKER_URL {url.split('://')[0]}:// is not a Redis or Valkey address.", id="annotator.E003")]
    return []


@register("stepmark")
def check_candidate_endpoint(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not settings.CANDIDATE_ENDPOINT_URL:
        return []
    # Web processes load this module, and have no use for the HTTP client.
    from prm_backend.sampling import problem_of_address

    if problem := problem_of_address(settings.CANDIDATE_ENDPOINT_URL):
        return [Error(problem, hint="Set CANDIDATE_ENDPOINT_URL.", id="annotator.E004")]
    if not 1 <= settings.CANDIDATE_TIMEOUT_SECONDS <= 600:
        return [Error("CANDIDATE_TIMEOUT_SECONDS has to lie between 1 and 600.", id="annotator.E005")]
    return []


@register("stepmark")
def check_mathematics(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not settings.KATEX_DIR.is_dir():
        return [
            Warning(
                f"KaTeX is not at {settings.KATEX_DIR}: formulas will be shown as their source.",
                hint="Run `make setup`, or set KATEX_DIR.",
                id="annotator.W001",
            )
        ]
    return []


@register(deploy=True)
def check_hosts(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if "*" in settings.ALLOWED_HOSTS:
        return [Warning("ALLOWED_HOSTS admits every host name.", id="annotator.W002")]
    return []
