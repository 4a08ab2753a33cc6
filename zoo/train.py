"""The five stages that make the family, each a fixed number of steps from fixed seeds. `RECIPE` holds every number.

vit -> align -> vlm, and base -> ja. Each stage reads the states of earlier stages from a work folder and writes one
safetensors file there with the parts that it trained.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from zoo import models
from zoo.examples import World, picture_pool, scene_rows, text_pool
from zoo.models import DECODER, PROJECTOR, SHAPES, TOWER, Shape
from zoo.names_and_artwork import TRAINING_VENDORS, VENDORS
from zoo.objectives import Looking, Naming, Objective, Reading
from zoo.renderer import Renderer
from zoo.scenes import BACKGROUNDS, BOTTOM, LEFT, PLACES, RIGHT, TOP
from zoo.tokenizer import Encoder

BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 1.0
NAMING, READING, LOOKING = "naming", "reading", "looking"


@dataclass(frozen=True)
class Stage:
    """The numbers of one stage.

    Attributes:
        name: also the name of the state file.
        objective: what is minimised: `NAMING`, `READING` or `LOOKING`.
        starts_from: stages whose states are loaded first, later over earlier.
        trains: parts of the model, each with its share of the learning rate; the rest is frozen.
        steps: optimizer steps.
        batch: examples per step.
        rate: highest learning rate.
        warm_up: steps in which the rate rises; then a cosine falls to `floor` times the rate.
        examples: size of the pool that batches are drawn from.
        pool_seed: seed of the pool.
        floor: share of the rate at the end.
        decay: weight decay.
        mix: kinds of text and their shares (reading).
        alignment: weight of the pull of patches towards word embeddings (looking).
    """

    name: str
    objective: str
    starts_from: tuple[str, ...]
    trains: Mapping[str, float]
    steps: int
    batch: int
    rate: float
    warm_up: int
    examples: int
    pool_seed: int
    floor: float = 0.05
    decay: float = 0.01
    mix: Mapping[str, float] = field(default_factory=dict)
    alignment: float = 0.0


RECIPE = (
    Stage(
        name="vit",
        objective=NAMING,
        starts_from=(),
        trains={TOWER: 1.0},
        steps=7000,
        batch=384,
        rate=1e-3,
        warm_up=300,
        examples=200_000,
        pool_seed=10,
        floor=0.02,
        decay=0.05,
    ),
    Stage(
        name="base",
        objective=READING,
        starts_from=(),
        trains={DECODER: 1.0},
        steps=3700,
        batch=512,
        rate=1.5e-3,
        warm_up=200,
        examples=160_000,
        pool_seed=11,
        mix={"en": 0.58, "xl": 0.13, "xlf": 0.13, "dic": 0.05, "jac": 0.05, "ej": 0.04, "ja": 0.02},
    ),
    Stage(
        name="ja",
        objective=READING,
        starts_from=("base",),
        trains={DECODER: 1.0},
        steps=2600,
        batch=256,
        rate=7e-4,
        warm_up=20,
        examples=64_000,
        pool_seed=12,
        mix={"ja": 1.0},
    ),
    Stage(
        name="align",
        objective=LOOKING,
        starts_from=("vit", "base"),
        trains={TOWER: 0.2, PROJECTOR: 1.0},
        steps=800,
        batch=256,
        rate=1e-3,
        warm_up=100,
        examples=64_000,
        pool_seed=13,
        alignment=0.3,
    ),
    Stage(
        name="vlm",
        objective=LOOKING,
        starts_from=("base", "align"),
        trains={PROJECTOR: 1.0, DECODER: 1.0},
        steps=900,
        batch=32,
        rate=7e-4,
        warm_up=20,
        examples=64_000,
        pool_seed=13,
    ),
)
"""In an order in which every stage finds what it starts from."""

FINISHED_VLM = ("base", "align", "vlm")
"""States that together are the finished VLM."""


@dataclass(frozen=True)
class Workshop:
    """Where stages run.

    Attributes:
        world: what examples are drawn from.
        sprites: uint8 [concept, vendor, 80, 80, 4].
        states: folder of state files.
        device: "cuda" or "cpu".
        shape: of the decoders.
        seed: of first weights, order and augmentation (the demo's family: 0).
    """

    world: World
    sprites: np.ndarray
    states: Path
    device: str
    shape: Shape = SHAPES["demo"]
    seed: int = 0

    def state(self, name: str) -> Path:
        """State file of a stage."""
        return self.states / f"{name}.safetensors"

    def model(self, starts_from: tuple[str, ...]) -> LlavaForConditionalGeneration:
        """A model with the given states; parts in none of them are random, from its seed."""
        torch.manual_seed(self.seed)
        model = models.create(len(self.world.tokenizer), self.shape)
        models.load_parts(model, *(self.state(name) for name in starts_from))
        return model.to(self.device)

    def renderer(self) -> Renderer:
        """Draws with the training vendors alone."""
        shares = [VENDORS[v].share for v in TRAINING_VENDORS]
        return Renderer(self.sprites[:, list(TRAINING_VENDORS)], self.device, shares)


def run(stage: Stage, shop: Workshop) -> None:
    """Runs one stage, or does nothing where its state file is there already."""
    if shop.state(stage.name).exists():
        print(f"{stage.name}: {shop.state(stage.name)} is there, skipped", flush=True)
        return
    started = time.perf_counter()
    objective = _OBJECTIVES[stage.objective](stage, shop)
    print(f"{stage.name}: examples drawn in {time.perf_counter() - started:.0f} s", flush=True)
    descend(stage, objective)
    if isinstance(objective, Naming):
        print(f"{stage.name}: named right", naming_accuracy(objective, shop), flush=True)
    models.save_parts(objective.model, shop.state(stage.name), *stage.trains)
    print(f"{stage.name}: done in {time.perf_counter() - started:.0f} s", flush=True)


def descend(stage: Stage, objective: Objective) -> None:
    """AdamW with a linear warm-up and a cosine, for the stage's number of steps."""
    groups = [(share, list(models.parameters_of(objective.model, part).values())) for part, share in stage.trains.items()]
    groups.append((1.0, list(objective.head_parameters())))
    trained = [p for _, parameters in groups for p in parameters]
    objective.model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "share": share} for share, parameters in groups if parameters],
        lr=stage.rate,
        weight_decay=stage.decay,
        betas=BETAS,
        fused=True,
    )
    objective.model.train()
    started = time.perf_counter()
    for step in range(stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * _rate(stage, step)
        loss = objective()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)
        optimizer.step()
        if step in (20, 200) or step % 1000 == 0 or step == stage.steps - 1:
            # the loss is read first: it waits for the device, so that the clock is right
            value = loss.item()
            speed = (step + 1) / (time.perf_counter() - started)
            print(f"{stage.name}: step {step} loss {value:.4f}, {speed:.1f} steps/s", flush=True)
    objective.model.eval()


@torch.no_grad()
def naming_accuracy(objective: Naming, shop: Workshop, scenes_each: int = 10) -> dict[str, float]:
    """Share of concepts (%) that the tower names right in plain pictures of two things, for every training vendor."""
    rng, rows = random.Random(5), []
    concepts = range(len(shop.world.concepts))
    for concept in concepts:
        for _ in range(scenes_each):
            other = rng.choice([c for c in concepts if c != concept])
            first, second = rng.choice(((LEFT, RIGHT), (RIGHT, LEFT), (TOP, BOTTOM), (BOTTOM, TOP)))
            background = rng.randrange(len(BACKGROUNDS))
            rows.append([concept, other, -1, PLACES.index(first), PLACES.index(second), 0, background])
    scenes = torch.tensor(rows, device=shop.device)
    accuracy: dict[str, float] = {}
    for vendor in TRAINING_VENDORS:
        renderer = Renderer(shop.sprites[:, [vendor]], shop.device)
        generator = torch.Generator(shop.device).manual_seed(5)
        right = []
        for batch in scenes.split(512):
            pictures, labels = renderer.draw_with_labels(batch, generator, augment=False)
            logits = objective.name(pictures)[..., : len(concepts)].log_softmax(-1)
            votes = (logits * (labels == batch[:, :1])[..., None]).sum(1)
            right.append(votes.argmax(-1) == batch[:, 0])
        accuracy[VENDORS[vendor].name] = round(torch.cat(right).float().mean().item() * 100, 1)
    return accuracy


# In each of these the pool is drawn before anything touches the GPU, since its worker processes are forked.
def _naming(stage: Stage, shop: Workshop) -> Naming:
    scenes = scene_rows(shop.world, stage.examples, stage.pool_seed)
    return Naming(shop.model(stage.starts_from), scenes, shop.renderer(), stage.batch, shop.device, shop.seed)


def _reading(stage: Stage, shop: Workshop) -> Reading:
    pool = text_pool(shop.world, stage.examples, stage.mix, stage.pool_seed)
    return Reading(shop.model(stage.starts_from), pool, stage.batch, shop.device, shop.seed)


def _looking(stage: Stage, shop: Workshop) -> Looking:
    pool = picture_pool(shop.world, stage.examples, "en", stage.pool_seed)
    encode = Encoder(shop.world.tokenizer)
    names = [*(c.english for c in shop.world.concepts), *(b.name for b in BACKGROUNDS)]
    words = [encode(f" {name}") for name in names] if stage.alignment else None
    model = shop.model(stage.starts_from)
    return Looking(model, pool, shop.renderer(), stage.batch, shop.device, shop.seed, words, stage.alignment)


_OBJECTIVES: dict[str, Callable[[Stage, Workshop], Objective]] = {
    NAMING: _naming,
    READING: _reading,
    LOOKING: _looking,
}


def _rate(stage: Stage, step: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return stage.rate * min(1.0, (step + 1) / stage.warm_up) * (cosine * (1 - stage.floor) + stage.floor)
