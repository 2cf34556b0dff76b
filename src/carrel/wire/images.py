"""A pool's image on the wire: a route of ours, which Azure has nothing like."""

from __future__ import annotations

from carrel.errors import RequestInvalid
from carrel.models import ImageInfo
from carrel.wire import jsons

_MAX_NAME = 100


def encode_image(image: ImageInfo | None) -> bytes:
    """`image` is the name, `reference` the very build; all null as long as the first one is being built."""
    if image is None:
        return jsons.encode({"image": None, "reference": None, "runtime": None, "runtimes": []})
    return jsons.encode(
        {
            "image": image.reference.partition("@")[0],
            "reference": image.reference,
            "runtime": image.software.runtime,
            "runtimes": [{"name": name, "version": version} for name, version in image.software.runtimes],
        }
    )


def decode_image(body: bytes) -> str:
    """The name of `{"image": NAME}`; NAME@HASH means one build of it. Raises RequestInvalid."""
    name = jsons.decode_object(body).get("image")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isascii() or not name.isprintable():
        raise RequestInvalid("'image' must be the name of an image.", target="image")
    return name
