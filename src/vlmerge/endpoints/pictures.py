"""A picture as a data URL: the file as it is where any server reads it, else the same pixels as PNG."""

from __future__ import annotations

import base64
import io

from vlmerge.types import Picture

AS_IT_IS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
ORIENTATION = 0x0112
"""EXIF: cameras turn pictures by a number beside the pixels, which not every server reads."""


def data_url(picture: Picture) -> str:
    """The picture for a request; raises TaskError if it cannot be read."""
    from PIL import Image

    data = picture.data if picture.data is not None else (picture.path.read_bytes() if picture.path else b"")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            kind = AS_IT_IS.get(opened.format or "")
            plain = opened.getexif().get(ORIENTATION, 1) == 1 and opened.mode in ("RGB", "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        kind, plain = None, False
    if kind is None or not plain:
        buffer = io.BytesIO()
        picture.open().save(buffer, "PNG")
        kind, data = "image/png", buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
