"""The 126 things that pictures show: their names in two languages, and seven drawings of each.

Takes the unpacked packages of `sources.py`; gives `Concept`s and sprites, uint8 [concept, vendor, 80, 80, RGBA].
Artwork and names are joined on Unicode code points (lower case, variation selector fe0f removed).
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo import sources

SPRITE_PIXELS = 80
OPAQUE = 20
"""Alpha (0..255) above which a pixel counts as part of the drawing when it is cropped."""

CODE_POINTS = {
    "animal": """
        1f408 1f415 1f40e 1f407 1f418 1f43b 1f43c 1f981 1f98a 1f438 1f412 1f98c 1f984 1f43f 1f40d 1f422 1f98e 1f419
        1f980 1f98b 1f427 1f985""",
    "food": """
        1f345 1f347 1f348 1f349 1f34a 1f34b 1f34c 1f34e 1f350 1f351 1f352 1f353 1f95d 1f951 1f346 1f955 1f33d 1f336
        1f952 1f954 1f330 1f354 1f355 1f32d 1f35f 1f37f 1f950 1f95a 1f95e 1f9c0 1f35e 1f35a 1f359 1f361 1f364 1f36a
        1f36e 1f382 1f377 1f378 1f37a 1f37c""",
    "plant": "1f332 1f334 1f335 2618 1f341 1f344 1f337 1f338 1f339 1f33b",
    "thing": """
        1f380 1f384 1f388 26bd 1f3b2 1f3c6 1f3a9 1f455 1f456 1f48d 1f3a7 1f4a1 1f4f7 1f3b7 1f3b8 1f3bb 1f941 1f4a3
        1f528 1f527 1f511 2709 1f4f1 270f 1f4bb 1f5ff 231a 2693 1f6aa""",
    "travel": """
        1f680 1f681 2708 1f691 1f692 1f697 1f6b2 1f6f5 26f5 1f6a2 26ea 1f3f0 1f30b 1f308 26e9 26f2 2602 2744 1f525
        1f4a7 2b50 2601 1f319""",
}
"""How these were chosen is told in README.md, section "What was known before"."""

ENGLISH_EDITS = {
    "1f34e": "apple",
    "1f9c0": "cheese",
    "2709": "envelope",
    "1f422": "turtle",
    "1f697": "car",
}
JAPANESE_EDITS = {"1f34e": "リンゴ", "1f3f0": "城", "26bd": "サッカーボール"}
FACE_OF = "の顔"
PLURAL = frozenset({"grapes", "cherries", "pancakes", "french fries", "jeans"})
MASS = frozenset({"popcorn", "bread", "cooked rice", "fire", "dango", "cheese"})

CONCEPTS_FILE = Path(__file__).with_name("concepts.json")


@dataclass(frozen=True)
class Concept:
    """One thing that a picture can show.

    Attributes:
        index: row in the sprites and in the naming head of the vision tower's pretraining.
        code_point: Unicode code point, lower-case hex.
        english: name without article.
        japanese: name.
        category: key of `CODE_POINTS`; animals take います in Japanese.
        number: "one", "plural" or "mass"; decides the English article and verb.
    """

    index: int
    code_point: str
    english: str
    japanese: str
    category: str
    number: str


@dataclass(frozen=True)
class Vendor:
    """One way of drawing. `share` is its relative frequency in training; 0 keeps it out."""

    name: str
    package: sources.Package
    files: str
    share: float


VENDORS = (
    Vendor("google", sources.GOOGLE, "img/google/64/*.png", 1.0),
    Vendor("twitter", sources.TWITTER, "img/twitter/64/*.png", 1.0),
    Vendor("fluent3d", sources.FLUENT_3D, "assets/*.webp", 1.0),
    Vendor("fluentflat", sources.FLUENT_FLAT, "assets/*.svg", 1.0),
    Vendor("emojione", sources.EMOJIONE, "assets/png_128x128/*.png", 1.0),
    Vendor("emojione_bw", sources.EMOJIONE, "assets/png_bw/*.png", 0.4),
    Vendor("openmoji", sources.OPENMOJI, "color/svg/*.svg", 0.0),
)
COLOUR_TRAINING_VENDORS = tuple(i for i, v in enumerate(VENDORS) if v.share == 1.0)
TRAINING_VENDORS = tuple(i for i, v in enumerate(VENDORS) if v.share)
HELD_OUT_VENDORS = tuple(i for i, v in enumerate(VENDORS) if not v.share)
LINE_ART_FALLBACK = {"emojione_bw": "emojione"}
"""Where line art lacks a drawing, the same vendor's colour drawing stands in."""


def load_concepts() -> tuple[Concept, ...]:
    """Reads the committed list, `concepts.json`, without needing any downloaded package."""
    return tuple(Concept(**row) for row in json.loads(CONCEPTS_FILE.read_text(encoding="utf-8")))


def concepts_as_json(concepts: tuple[Concept, ...]) -> str:
    """The text of `concepts.json`, one concept per line."""
    rows = ",\n".join(json.dumps(vars(c), ensure_ascii=False) for c in concepts)
    return f"[\n{rows}\n]\n"


def name_concepts(source: Path) -> tuple[Concept, ...]:
    """Joins the code points with CLDR's English and Japanese short names, edited where they would read badly."""
    english, japanese = _cldr_names(source, "en"), _cldr_names(source, "ja")
    concepts: list[Concept] = []
    for category, code_points in CODE_POINTS.items():
        for point in code_points.split():
            name = ENGLISH_EDITS.get(point, english[point])
            number = "plural" if name in PLURAL else "mass" if name in MASS else "one"
            name_ja = JAPANESE_EDITS.get(point, japanese[point].replace(FACE_OF, ""))
            concepts.append(Concept(len(concepts), point, name, name_ja, category, number))
    return tuple(concepts)


def draw_sprites(source: Path, concepts: tuple[Concept, ...]) -> np.ndarray:
    """Rasterises every vendor's drawing of every concept.

    Returns:
        uint8 [concept, vendor, 80, 80, 4], straight (not premultiplied) alpha, in the order of `VENDORS`.
    """
    files = {v.name: {_normal(p.stem): p for p in (source / v.package.folder).glob(v.files)} for v in VENDORS}
    sprites = np.empty((len(concepts), len(VENDORS), SPRITE_PIXELS, SPRITE_PIXELS, 4), np.uint8)
    for concept in concepts:
        for column, vendor in enumerate(VENDORS):
            path = files[vendor.name].get(concept.code_point)
            if path is None:
                path = files[LINE_ART_FALLBACK[vendor.name]][concept.code_point]
            sprites[concept.index, column] = _fit(_open(path))
    return sprites


def _normal(code_points: str) -> str:
    return code_points.lower().replace("-fe0f", "").replace("fe0f-", "")


def _cldr_names(source: Path, language: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for package, kind in ((sources.CLDR_DERIVED, "annotationsDerived"), (sources.CLDR, "annotations")):
        path = source / package.folder / kind / language / "annotations.json"
        for characters, entry in json.loads(path.read_text(encoding="utf-8"))[kind]["annotations"].items():
            if "tts" in entry:
                names[_normal("-".join(f"{ord(c):04x}" for c in characters))] = entry["tts"][0]
    return names


def _open(path: Path) -> Image.Image:
    if path.suffix != ".svg":
        return Image.open(path).convert("RGBA")
    import resvg_py  # only the artwork step needs it

    png = resvg_py.svg_to_bytes(svg_string=path.read_text(encoding="utf-8"), width=144, height=144)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def _fit(image: Image.Image) -> np.ndarray:
    """Crops to the drawing, pads to a square, resizes to 80x80 with premultiplied alpha so that no halo appears."""
    box = image.getchannel("A").point(lambda alpha: 255 if alpha > OPAQUE else 0).getbbox()
    image = image.crop(box)
    side = int(max(image.size) * 1.04) + 2
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    pixels = np.asarray(square).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    kernel = Image.Resampling.LANCZOS if side > SPRITE_PIXELS else Image.Resampling.BICUBIC
    channels = [np.asarray(Image.fromarray(pixels[..., c]).resize((SPRITE_PIXELS, SPRITE_PIXELS), kernel)) for c in range(4)]
    pixels = np.stack(channels, -1).clip(0, 255)
    colour = np.where(pixels[..., 3:] > 0, pixels[..., :3] * 255 / np.maximum(pixels[..., 3:], 1), 0)
    return np.concatenate([colour, pixels[..., 3:]], -1).clip(0, 255).astype(np.uint8)
