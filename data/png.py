"""PNG files that say what they are: written with text chunks, by which an earlier output of ours is known again."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from depth_loss_sweep.data.errors import DAMAGE

SOFTWARE = "Depth Loss Sweep"
HEADER = 33  # bytes: the signature and IHDR, which comes first (PNG specification, section 5.6)


def encode_png(picture: np.ndarray, title: str, **texts: str) -> bytes:
    """A grey or BGR picture as a PNG that carries its title, these texts, and who made it (tEXt, section 11.3.3.2)."""
    content = cv2.imencode(".png", picture)[1].tobytes()
    chunks = {"Software": SOFTWARE, "Title": title, **texts}.items()
    return content[:HEADER] + b"".join(_text(f"{key}\0{text}") for key, text in chunks) + content[HEADER:]


def png_texts(path: Path) -> dict[str, str]:
    """The texts of a PNG file; none where it is something else or cannot be read."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return {str(key): text for key, text in picture.info.items() if isinstance(text, str)}
    except (*DAMAGE, Image.DecompressionBombError):
        return {}


def is_our_png(path: Path, *titles: str) -> bool:
    """Whether a file is a PNG that this program made; with titles, under one of these."""
    texts = png_texts(path)
    return texts.get("Software") == SOFTWARE and (not titles or texts.get("Title") in titles)


def _text(content: str) -> bytes:
    body = b"tEXt" + content.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
