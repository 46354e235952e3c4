from __future__ import annotations

from hypothesis import settings

settings.register_profile("repository", deadline=None)  # a busy machine is no failure
settings.load_profile("repository")
