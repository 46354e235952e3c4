"""One settings file; everything that differs between machines comes from the environment (docs/operator.md)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import environ
from django.core.management.utils import get_random_secret_key

from annotator.broker import broker_url

ROOT = Path(__file__).resolve().parent.parent
env = environ.Env()

DATA_DIR = Path(env.str("DATA_DIR", default=str(ROOT / "data"))).resolve()
DEBUG = env.bool("DEBUG", default=False)


def stored_secret_key(folder: Path) -> str:
    """The key of an installation that was given none: made once, readable by its owner only. Linking a finished file
    into place lets two processes start at once and agree."""
    file = folder / "secret_key"
    if not file.exists():
        draft = folder / f".secret_key.{os.getpid()}"
        with open(draft, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as handle:
            handle.write(get_random_secret_key())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
    return file.read_text().strip()


SECRET_KEY = env.str("SECRET_KEY", default="")
# Counts failed logins, so all web processes have to share it; several machines need CACHE_URL.
LOCAL_CACHE = f"filecache://{DATA_DIR / 'cache' / 'web'}"
DATA_DIR_PROBLEM = ""
try:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=DATA_DIR):  # the permissions of a read-only file system look fine
        pass
    SECRET_KEY = SECRET_KEY or stored_secret_key(DATA_DIR)
except OSError as error:
    # The settings load all the same, so that `manage.py check` can say it (annotator.E001); wsgi.py goes no further.
    DATA_DIR_PROBLEM = f"The data folder {DATA_DIR} cannot be used: {error.strerror} ({error.filename})."
    SECRET_KEY, LOCAL_CACHE = SECRET_KEY or get_random_secret_key(), "locmemcache://"
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
BEHIND_TLS = env.bool("BEHIND_TLS", default=False)

INSTALLED_APPS = [
    "annotator.apps.AnnotatorConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "annotator.views.accounts.RequireOwnPassword",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "annotator.urls"
WSGI_APPLICATION = "annotator.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "annotator.User"
AUTHENTICATION_BACKENDS = ["annotator.sessions.UserBackend"]
SESSION_ENGINE = "annotator.sessions"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def database(url: str) -> dict[str, Any]:
    """Django's settings for one database URL. SQLite gets WAL, IMMEDIATE transactions (so that two writers queue up
    instead of failing) and synchronous FULL (an acknowledged rating is on disk), and each thread keeps its connection:
    opening one costs as much as a whole request. PostgreSQL gets a connection pool and prepared statements: planning
    costs it more than executing, and the requests of labelers are always the same few."""
    settings: dict[str, Any] = dict(environ.Env.db_url_config(url))
    settings["HOST"] = unquote(settings.get("HOST") or "")
    if settings["ENGINE"] == "django.db.backends.sqlite3":
        settings["CONN_MAX_AGE"] = None
        settings["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=134217728; "
            "PRAGMA journal_size_limit=27103364; PRAGMA cache_size=2000;",
        }
    else:
        from annotator.postgres import PreparingCursor

        settings["OPTIONS"] = {
            "pool": {"min_size": 1, "max_size": env.int("DATABASE_POOL", default=8), "timeout": 10},
            "server_side_binding": True,
            "cursor_factory": PreparingCursor,
            "prepare_threshold": 5,
        }
    return settings


DATABASES = {"default": database(env.str("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'stepmark.sqlite3'}"))}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(DATA_DIR / "static")))
# What pages load of the npm packages: the folder, and which of its files are served under vendor/.
NODE_MODULES = Path(env.str("NODE_MODULES", default=str(ROOT / "node_modules")))
KATEX_DIR = NODE_MODULES / "katex" / "dist"
VENDORED = {
    "vendor/katex": (KATEX_DIR, ["katex.min.*", "fonts/*"]),
    "vendor/markdown-it": (NODE_MODULES / "markdown-it" / "dist" / "browser", ["*.umd.min.js*"]),
    "vendor/highlight": (NODE_MODULES / "@highlightjs" / "cdn-assets" / "es", ["highlight.min.js"]),
}
STATICFILES_DIRS: list[Any] = [
    ROOT / "static",
    *((prefix, folder) for prefix, (folder, _) in VENDORED.items() if folder.is_dir()),
]
STATICFILES_FINDERS = [
    "annotator.staticfiles.ChosenFiles",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "files"}},
    "staticfiles": {"BACKEND": env.str("STATICFILES_STORAGE", default="annotator.staticfiles.HashedStaticFiles")},
}
CACHES = {"default": env.cache_url("CACHE_URL", default=LOCAL_CACHE)}
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", default=1 << 30)

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 14 * 24 * 3600
if BEHIND_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "manifest-src": ["'self'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["annotator.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "annotator.api.errors.handle_exception",
    "NUM_PROXIES": env.int("NUM_PROXIES", default=0),  # how many X-Forwarded-For entries are our own proxies
    "DEFAULT_THROTTLE_RATES": {"login": "20/min", "candidates": "10/min"},
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Stepmark API",
    "DESCRIPTION": "Claim solutions, rate steps, follow progress and take datasets out.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# Redis and Valkey redeliver what a dead worker held only after the visibility timeout; a job that outlives it is woken
# twice, and the second wake-up finds the lease taken and leaves (design: the Job row is the truth).
CELERY_BROKER_URL = env.str("BROKER_URL", default="") or broker_url(DATA_DIR)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "reconcile": {"task": "annotator.tasks.reconcile", "schedule": 5.0, "options": {"expires": 5.0}},
    "pulse of default": {
        "task": "annotator.tasks.pulse",
        "args": ["default"],
        "schedule": 10.0,
        "options": {"queue": "default", "expires": 10.0},
    },
    "pulse of gpu": {
        "task": "annotator.tasks.pulse",
        "args": ["gpu"],
        "schedule": 10.0,
        "options": {"queue": "gpu", "expires": 10.0},
    },
}

# Updates of the embedded model's pretraining: about two minutes on two cores (docs/experiments.md).
PRETRAIN_STEPS = env.int("PRETRAIN_STEPS", default=2000)
JOB_LEASE_SECONDS = env.int("JOB_LEASE_SECONDS", default=60)

# The model that writes candidates while people label; only workers call it, and only the operator names its address.
CANDIDATE_ENDPOINT_URL = env.str("CANDIDATE_ENDPOINT_URL", default="")
CANDIDATE_ENDPOINT_KEY = env.str("CANDIDATE_ENDPOINT_KEY", default="")
CANDIDATE_ENDPOINT_KEY_FILE = env.str("CANDIDATE_ENDPOINT_KEY_FILE", default="")
CANDIDATE_TIMEOUT_SECONDS = env.float("CANDIDATE_TIMEOUT_SECONDS", default=60.0)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    # A line for each received wake-up says nothing: what a job does stands in its row and in annotator's own lines.
    "loggers": {
        name: {"level": "WARNING"}
        for name in ("celery.app.trace", "celery.worker.strategy", "celery.beat", "httpx2", "httpcore2")
    },
}
