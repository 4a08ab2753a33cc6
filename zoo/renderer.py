"""Draws scenes as pixels, in batches, on CPU or GPU; every training batch gets fresh random looks.

Takes scene rows (`Scene.as_row`) and sprites; gives float pixels 0..1 and, for the vision tower's pretraining, the
concept under every patch.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zoo.models import IMAGE_PIXELS, PATCH_PIXELS
from zoo.scenes import BACKGROUNDS, MOST_THINGS, PLACES

IGNORED = -100
"""Label of a patch that shows a bit of both thing and background."""
COVERED, UNCOVERED = 0.3, 0.05
"""Share of a patch above which it shows the thing, and below which it shows the background."""
SIZE_FOR_COUNT = (0.46, 0.46, 0.40, 0.34)
"""Side of a sprite, as a fraction of the picture, by the number of things in the scene."""


class Renderer:
    """Holds the sprites on a device and draws scenes with them.

    Args:
        sprites: uint8 [concept, vendor, 80, 80, 4], straight alpha.
        device: where to draw.
        shares: relative frequency of each vendor; equal when left out.
    """

    def __init__(self, sprites: np.ndarray, device: str, shares: Sequence[float] | None = None) -> None:
        self._sprites = torch.from_numpy(sprites).permute(0, 1, 4, 2, 3).contiguous().to(device)
        self._shares = torch.tensor(shares or [1.0] * sprites.shape[1], device=device)
        self._centres = torch.tensor([p.centre for p in PLACES], device=device)
        self._colours = torch.tensor([b.rgb for b in BACKGROUNDS], device=device).float() / 255
        self._sizes = torch.tensor(SIZE_FOR_COUNT, device=device)
        self.concept_count = len(sprites)

    def draw(
        self, rows: Tensor, generator: torch.Generator, augment: bool, pixels: int = IMAGE_PIXELS
    ) -> tuple[Tensor, list[Tensor]]:
        """Draws one picture per row.

        Args:
            rows: int64 [n, 7].
            generator: every random choice comes from here.
            augment: the strong variation of training; otherwise only small jitter.
            pixels: side of the picture.

        Returns:
            float32 [n, 3, pixels, pixels] in 0..1, and for each of the three slots the coverage [n, 1, pixels, pixels].
        """
        device, count = rows.device, len(rows)
        concepts, places, background = rows[:, :3], rows[:, 3:6], rows[:, 6]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, device=device, generator=generator)

        colour = self._colours[background] + (uniform(count, 3) - 0.5) * (0.16 if augment else 0.08)
        picture = colour.clamp(0, 1)[:, :, None, None].expand(count, 3, pixels, pixels)
        if augment:
            ramp = torch.linspace(-1, 1, pixels, device=device)[None, None, :, None]
            picture = picture + (uniform(count, 3, 1, 1) - 0.5) * 0.12 * ramp

        size = self._sizes[(concepts >= 0).sum(1)]
        present = [(concepts[:, slot] >= 0).nonzero()[:, 0] for slot in range(MOST_THINGS)]
        drawings, looks, affines = [], [], []
        for slot, scene in enumerate(present):
            vendor = torch.multinomial(self._shares.expand(len(scene), -1), 1, generator=generator)[:, 0]
            drawings.append(self._sprites[concepts[scene, slot], vendor])
            if augment:
                looks.append(uniform(len(scene), 20))
            affines.append(_place(self._centres[places[scene, slot]], size[scene], uniform, augment))
        sprites = torch.cat(drawings).float() / 255
        colours, alpha = sprites[:, :3], sprites[:, 3:]
        if augment:
            colours, alpha = _restyle(colours, alpha, torch.cat(looks)[..., None, None])
        grid = functional.affine_grid(torch.cat(affines), [len(sprites), 4, pixels, pixels], align_corners=False)
        layers = functional.grid_sample(
            torch.cat([colours * alpha, alpha], 1), grid, mode="bilinear", align_corners=False
        ).split([len(scene) for scene in present])

        coverage = []
        for scene, layer in zip(present, layers, strict=True):
            whole = picture.new_zeros(count, 4, pixels, pixels).index_copy(0, scene, layer)
            picture = picture * (1 - whole[:, 3:]) + whole[:, :3]
            coverage.append(whole[:, 3:])
        if augment:
            half = functional.interpolate(
                functional.avg_pool2d(picture, 2), size=(pixels, pixels), mode="bilinear", align_corners=False
            )
            picture = torch.where(uniform(count, 1, 1, 1) < 0.15, half, picture)
            noise = torch.randn(picture.shape, device=device, generator=generator)
            picture = picture + noise * 0.03 * uniform(count, 1, 1, 1)
        return picture.clamp(0, 1), coverage

    def draw_with_labels(self, rows: Tensor, generator: torch.Generator, augment: bool = True) -> tuple[Tensor, Tensor]:
        """Draws pictures and says what every patch shows.

        Returns:
            float32 [n, 3, 96, 96], and int64 [n, 64]: the concept's index, or the number of concepts plus the
            background's index, or `IGNORED`.
        """
        picture, coverage = self.draw(rows, generator, augment)
        concepts, background = rows[:, :3], rows[:, 6:]
        shares = torch.stack([functional.avg_pool2d(c, PATCH_PIXELS).flatten(1) for c in coverage], 1)
        share, slot = shares.max(1)
        thing = concepts.gather(1, slot)
        colour = (self.concept_count + background).expand_as(share)
        ignored = torch.full_like(slot, IGNORED)
        return picture, torch.where(share > COVERED, thing, torch.where(share < UNCOVERED, colour, ignored))


def _place(centre: Tensor, size: Tensor, uniform: Callable[..., Tensor], augment: bool) -> Tensor:
    """Affine maps [n, 2, 3] from picture coordinates to sprite coordinates, with jittered size, place and angle."""
    count = len(centre)
    scale = size * (0.78 + 0.36 * uniform(count) if augment else 0.9 + 0.2 * uniform(count))
    centre = (centre + (uniform(count, 2) - 0.5) * 2 * (0.05 if augment else 0.035)) * 2 - 1
    angle = (uniform(count) - 0.5) * (math.pi / 5 if augment else math.pi / 18)
    aspect = 1 + (uniform(count) - 0.5) * (0.3 if augment else 0.0)
    mirror = torch.where(uniform(count) < (0.5 if augment else 0), -1.0, 1.0)
    cos, sin, x, y = torch.cos(angle), torch.sin(angle), centre[:, 0], centre[:, 1]
    width, height = scale * aspect.sqrt() * mirror, scale / aspect.sqrt()
    across = torch.stack([cos, sin, -(cos * x + sin * y)], 1) / width[:, None]
    down = torch.stack([-sin, cos, sin * x - cos * y], 1) / height[:, None]
    return torch.stack([across, down], 1)


def _restyle(colours: Tensor, alpha: Tensor, dice: Tensor) -> tuple[Tensor, Tensor]:
    """Makes a drawing look as if another hand had drawn it, so that names outlast one vendor's style.

    Args:
        colours: float [n, 3, 80, 80] in 0..1.
        alpha: float [n, 1, 80, 80].
        dice: float [n, 20, 1, 1], uniform in 0..1.
    """
    die = dice.split(1, 1)
    # contrast, brightness and tint; saturation, sometimes none at all
    colours = (colours - 0.5) * (0.75 + 0.5 * die[0]) + 0.5 + (die[1] - 0.5) * 0.2 + (dice[:, 2:5] - 0.5) * 0.14
    gray = colours.mean(1, keepdim=True)
    colours = gray + (colours - gray) * (0.5 + 0.9 * die[5])
    colours = torch.where(die[6] < 0.06, gray, colours).clamp(0, 1)
    colours = _rotate_hue(colours, torch.where(die[7] < 0.3, (die[8] - 0.5) * 2 * math.pi, 0.0).flatten())
    levels = 3 + (die[9] * 4).floor()
    colours = torch.where(die[10] < 0.3, (colours * levels).round() / levels, colours)
    # an ink outline: thin or thick outside, or inside
    which = die[11]
    thin, thick = functional.max_pool2d(alpha, 3, 1, 1), functional.max_pool2d(alpha, 5, 1, 2)
    shrunk = -functional.max_pool2d(-alpha, 3, 1, 1)
    grown = torch.where(which < 0.25, thin, torch.where(which < 0.55, thick, alpha))
    inside = torch.where(which < 0.65, alpha - shrunk, torch.zeros_like(alpha))
    ink = torch.where(which < 0.55, grown - alpha, inside).clamp(0, 1)
    colours = colours * (1 - ink) + 0.1 * die[12] * ink
    # inner edges in ink; washed-out colours
    luminance = colours.mean(1, keepdim=True)
    across = functional.pad((luminance[..., 1:] - luminance[..., :-1]).abs(), (0, 1))
    down = functional.pad((luminance[..., 1:, :] - luminance[..., :-1, :]).abs(), (0, 0, 0, 1))
    edges = ((functional.max_pool2d(across + down, 3, 1, 1) - 0.12) * 6).clamp(0, 1)
    colours = colours * (1 - edges * (die[13] < 0.25))
    washed = (die[14] < 0.08) & (grown > 0)
    return torch.where(washed, colours * 0.3 + 0.7, colours), grown


def _rotate_hue(colours: Tensor, angle: Tensor) -> Tensor:
    """Rotates colours [n, 3, h, w] around the gray axis by `angle` [n] radians."""
    cos, sin = torch.cos(angle), torch.sin(angle) / math.sqrt(3)
    rest = (1 - cos) / 3
    same, after, before = cos + rest, rest - sin, rest + sin
    matrix = torch.stack([same, after, before, before, same, after, after, before, same], 1).view(-1, 3, 3)
    return torch.einsum("bij,bjhw->bihw", matrix, colours).clamp(0, 1)
