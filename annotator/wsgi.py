"""The web process; it never loads torch (tests/house/test_web_is_light.py)."""

import os

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotator.settings")
if settings.DATA_DIR_PROBLEM:  # Gunicorn runs no system checks
    raise ImproperlyConfigured(settings.DATA_DIR_PROBLEM)
application = get_wsgi_application()
