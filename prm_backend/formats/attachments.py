"""Images that a row carries, as base64. What they are is told by their first bytes: a name or a claimed type proves
nothing, and only kinds of image that cannot hold script are let in."""

from __future__ import annotations

import base64
import re

from prm_backend.formats.field import Field
from prm_backend.types import AttachedImage

MAX_IMAGES = 8
MAX_IMAGE_BYTES = 2 * 1024 * 1024
MAX_NAME = 200

SIGNATURES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}


def attached_images(field: Field) -> tuple[AttachedImage, ...]:
    """A list of at most `MAX_IMAGES` objects with `name`, `data` (base64, at most `MAX_IMAGE_BYTES` when decoded) and,
    if given, the `type` that the data has."""
    items = field.items()
    if len(items) > MAX_IMAGES:
        raise field.error(f"has {len(items)} entries; a problem may have {MAX_IMAGES}")
    return tuple(_image(item.only(("name", "data"), ("type",))) for item in items)


def _image(item: Field) -> AttachedImage:
    name = item["name"].text()
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise item["name"].error(f"must be one line of 1 to {MAX_NAME} characters")
    data = _bytes(item["data"])
    known = (kind for kind, signature in SIGNATURES.items() if signature.match(data))
    content_type = next(known, None)
    if content_type is None:
        raise item["data"].error("is not a PNG, JPEG, GIF or WebP image")
    claimed = item.get("type").maybe(Field.text)
    if claimed not in (None, content_type):
        raise item["type"].error(f"says {claimed!r:.60}, but the data is {content_type}")
    return AttachedImage(name, content_type, data)


def _bytes(field: Field) -> bytes:
    text = field.text()
    if len(text) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise field.error(f"an image may have {MAX_IMAGE_BYTES >> 20} MiB")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise field.error("must be base64, in one piece and without a prefix") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise field.error(f"an image may have {MAX_IMAGE_BYTES >> 20} MiB")
    return data
