"""The settings of a test run: the project's own, on a data folder of their own that goes away with the process.

DATABASE_URL chooses the database as it does anywhere else; without it the tests run on a SQLite file, because a worker
process has to be able to open the same database.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="stepmark-tests-")
os.environ["BROKER_URL"] = "memory://"  # the `broker` fixture puts a real one in its place
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and more threads only slow small models down
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright keeps an event loop running in the thread of the tests
atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)

from annotator.settings import *  # noqa: E402, F403  the environment has to be set first; settings are a flat namespace
from annotator.settings import DATA_DIR, DATABASES, STATIC_ROOT, STORAGES  # noqa: E402  the same

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": str(Path(DATA_DIR) / "test.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
STATIC_ROOT.mkdir()  # WhiteNoise warns about an absent one
