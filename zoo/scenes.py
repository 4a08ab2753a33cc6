"""What stands where: a scene is one to three things at named places on a named background colour.

No words and no pixels here: `grammar.py` talks about scenes, `renderer.py` draws them.
"""

import random
from dataclasses import dataclass

from zoo.names_and_artwork import Concept


@dataclass(frozen=True)
class Place:
    """A named place. `centre` is (x, y) as fractions of the picture, y downwards."""

    name: str
    english: str
    japanese: str
    centre: tuple[float, float]


@dataclass(frozen=True)
class Background:
    """A named colour. `rgb` is 0..255."""

    name: str
    japanese: str
    rgb: tuple[int, int, int]


LEFT = Place("left", "on the left", "左", (0.25, 0.5))
RIGHT = Place("right", "on the right", "右", (0.75, 0.5))
TOP = Place("top", "at the top", "上", (0.5, 0.25))
BOTTOM = Place("bottom", "at the bottom", "下", (0.5, 0.75))
CENTRE = Place("center", "in the center", "中央", (0.5, 0.5))
PLACES = (LEFT, RIGHT, TOP, BOTTOM, CENTRE)

BACKGROUNDS = (
    Background("white", "白", (245, 245, 245)),
    Background("gray", "灰色", (165, 165, 165)),
    Background("pink", "ピンク", (250, 175, 200)),
    Background("blue", "青", (90, 150, 235)),
    Background("green", "緑", (110, 195, 110)),
    Background("yellow", "黄色", (250, 225, 95)),
    Background("purple", "紫", (160, 110, 205)),
)
MOST_THINGS = 3
SHARE_OF_COUNTS = {1: 0.30, 2: 0.55, 3: 0.15}


@dataclass(frozen=True)
class Scene:
    """Things with their places, in the order in which they are told, on a background."""

    things: tuple[tuple[Concept, Place], ...]
    background: Background

    @property
    def identity(self) -> tuple[frozenset[tuple[str, str]], str]:
        """Two scenes with the same identity show the same things at the same places on the same colour."""
        return frozenset((c.english, p.name) for c, p in self.things), self.background.name

    def as_row(self) -> list[int]:
        """Seven integers for the renderer: three concept rows (-1: none), three place rows, the background's row."""
        missing = MOST_THINGS - len(self.things)
        concepts = [concept.index for concept, _ in self.things] + [-1] * missing
        places = [PLACES.index(place) for _, place in self.things] + [0] * missing
        return [*concepts, *places, BACKGROUNDS.index(self.background)]


def draw_scene(rng: random.Random, concepts: tuple[Concept, ...]) -> Scene:
    """One random scene: two things stand side by side or one above the other, a third joins a side-by-side pair."""
    count = rng.choices(list(SHARE_OF_COUNTS), list(SHARE_OF_COUNTS.values()))[0]
    if count == 1:
        places = (rng.choice(PLACES),)
    elif count == 2:
        places = rng.choice(((LEFT, RIGHT), (TOP, BOTTOM)))
    else:
        places = (LEFT, RIGHT, rng.choice((TOP, BOTTOM)))
    chosen = rng.sample(concepts, count)
    return Scene(tuple(zip(chosen, places, strict=True)), rng.choice(BACKGROUNDS))
