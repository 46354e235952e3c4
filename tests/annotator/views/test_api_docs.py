from __future__ import annotations

import re

from django.test import Client


def test_the_page_about_the_api_keeps_the_content_policy(db: None) -> None:
    body = Client().get("/api/docs/").content.decode()
    assert "Stepmark API" in body
    assert "swagger-ui.css" in re.sub(r"\.[0-9a-f]{12}\.", ".", body)
    assert "<style" not in body
    assert not re.search(r"<script(?![^>]* src=)", body)
