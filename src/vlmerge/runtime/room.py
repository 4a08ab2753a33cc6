"""Where parents, caches and activations go on a card and in its host's memory: decided before anything is loaded. No torch."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.anatomy.roles import decoder_layer

if TYPE_CHECKING:
    from vlmerge.anatomy import Anatomy
    from vlmerge.checkpoint import Checkpoint, RemoteCheckpoint
    from vlmerge.config.model_ref import ModelRef

CONTEXT = 700 << 20
"""Bytes of a card that its driver, libraries, recorded graphs and fragments take."""
ROW_TOKENS = 832
"""Tokens of a question that this reckons with: a picture of 576, some text, an answer."""
MOST_ROWS, ENOUGH_ROWS = 50, 25
"""Questions that are answered together where there is room; and how many are worth more than parents on the card."""
READ_AT_ONCE = (16384, 8192, 4096, 2048, 1024)
"""Tokens of prompts that are read together: enough to keep a card busy, few enough that activations stay small."""
SHARE_READ = 0.15
"""Share of what the weights leave free that activations may take."""
MOST_FEATURES = 2 << 30
"""Bytes of picture features that stay on the card at most; the others wait in the host's memory."""
STAGING = 1 << 30
"""Bytes that parents on their way to the card take at most, beside one tensor of each."""
SHARE_OF_HOST = 0.7
"""Share of the host's free memory that parents may take."""


@dataclass(frozen=True)
class Machine:
    """What is free.

    Attributes:
        card: Bytes of the card's memory; None without a card.
        host: Bytes of the host's memory.
        name: The card's.
        total: Bytes of the card, free or not; None where it is not known.
        bfloat16: Whether the card reckons in bfloat16 (compute capability 8.0 and above).
    """

    card: int | None
    host: int
    name: str = "the GPU"
    total: int | None = None
    bfloat16: bool = True


@dataclass(frozen=True)
class Needs:
    """What a run takes.

    Attributes:
        live: Bytes of the live model.
        roles: Role → bytes of all parents' tensors of it.
        token: Bytes of one token in the cache.
        activation: Bytes of one token's activations while it is read.
        embedded: Bytes of one embedded token.
        row: Tokens of a question.
        paths: Bytes of the layers that paths take from other models than the host, in the live dtype: whatever their home,
            they stay on the card once they were on a path.
        copied: Bytes of those among them that are others than the parents' own, wherever these are.
    """

    live: int
    roles: Mapping[str, int]
    token: int
    activation: int
    embedded: int
    row: int
    paths: int = 0
    copied: int = 0

    @property
    def parents(self) -> int:
        """Bytes of all parents."""
        return sum(self.roles.values())


@dataclass(frozen=True)
class Room:
    """A plan for a card.

    Attributes:
        batch_size: Questions that are answered together.
        read_at_once: Tokens of prompts that are read together.
        homes: Role → `card`; `host`: pinned host memory, moved to the card for each candidate; `file`: mapped from disk and
            merged by the host's processor.
        bytes: Home → bytes of parents there.
        live, cache, activations: Bytes of the live model, of the batch's cache, of activations.
        paths: Bytes of other models' layers that paths hold on the card beside the parents.
        features: Bytes that picture features may take on the card.
        free: Bytes of the card that were free.
    """

    batch_size: int
    read_at_once: int
    homes: Mapping[str, str]
    bytes: Mapping[str, int]
    live: int
    paths: int
    cache: int
    activations: int
    features: int
    free: int

    def lines(self, name: str) -> list[str]:
        """For people."""
        parents = self.bytes
        where = {
            "card": "on the card",
            "host": "in pinned host memory, moved to the card for each candidate",
            "file": "mapped from disk, merged by the host's processor",
        }
        told = "; ".join(f"{_gigabytes(parents[home])} {text}" for home, text in where.items() if parents[home])
        lines = [
            f"{name}, {_gigabytes(self.free)} free: live model {_gigabytes(self.live)}, "
            + (f"other models' layers on paths {_gigabytes(self.paths)}, " if self.paths else "")
            + f"cache {_gigabytes(self.cache)} ({self.batch_size} questions together), "
            f"activations {_gigabytes(self.activations)}",
            f"parents: {told or 'none'}",
        ]
        if self.live + self.paths + self.cache + self.activations + self.bytes["card"] + CONTEXT > self.free:
            count = "one question" if self.batch_size == 1 else f"{self.batch_size} questions together"
            lines.append(f"note: the live model and {count} may not fit this card")
        return lines


def plan_room(needs: Needs, machine: Machine, batch_size: int | None = None) -> Room:
    """Shares a card out: the live model first, then a batch, then parents, what is left of them in the host's memory.

    Args:
        needs: Of the run.
        machine: Must have a card.
        batch_size: As asked for; None: as many questions as there is room for, at most MOST_ROWS.
    """
    assert machine.card is not None
    left = machine.card - needs.live - CONTEXT
    # By the card itself, not by what others leave of it now: a run that goes on has to reckon as it began.
    ever = (machine.total or machine.card) - needs.live - CONTEXT
    reading = next((tokens for tokens in READ_AT_ONCE if tokens * needs.activation <= SHARE_READ * ever), READ_AT_ONCE[-1])
    activations = reading * needs.activation
    row = needs.row * (needs.token + 2 * needs.embedded)
    left -= activations
    # A batch's embedded prompts and cache; then all parents if they fit beside one of a good size.
    whole = (left - needs.parents - needs.copied) // row
    staged = STAGING + max(needs.roles.values(), default=0)
    if whole >= (batch_size or ENOUGH_ROWS):
        rows, budget, moves, paths = batch_size or min(MOST_ROWS, whole), needs.parents, 0, needs.copied
        left -= paths
    else:
        paths = needs.paths
        left -= paths
        moves = staged if left - staged >= row * min(2, batch_size or 2) else 0
        rows = batch_size or max(1, min(MOST_ROWS, (left - moves) // row))
        budget = left - moves - rows * row if moves else 0
    homes: dict[str, str] = {}
    used = {"card": 0, "host": 0, "file": 0}
    limits = {"card": budget, "host": int(SHARE_OF_HOST * machine.host) if moves else 0}
    for role, size in needs.roles.items():
        home = next((home for home, limit in limits.items() if used[home] + size <= limit), "file")
        homes[role] = home
        used[home] += size
    features = max(0, min(MOST_FEATURES, (left - moves - rows * row - used["card"]) // 2))
    return Room(rows, reading, homes, used, needs.live, paths, rows * row, activations, features, machine.card)


def needs_of(
    checkpoints: Mapping[ModelRef, Checkpoint | RemoteCheckpoint],
    anatomies: Mapping[ModelRef, Anatomy],
    host: ModelRef,
    width: int,
    layers: int | None = None,
    *,
    scaled: bool = False,
) -> Needs:
    """What a run over these models takes.

    Args:
        checkpoints, anatomies: Of every model.
        host: Whose tower and processor the result has.
        width: Bytes of a live weight.
        layers: The most decoder layers that a candidate has; None: the host's.
        scaled: Whether factors stand between the layers of a path: then each place on it has last projections of its own.
    """
    facts = anatomies[host].facts
    layers = max(layers or 0, facts.layers)
    live = checkpoints[host].total_bytes
    if anatomies[host].layout is not None:
        live = sum(math.prod(tensor.shape) * width for tensor in checkpoints[host].tensors.values())
    if scaled:  # A path shares weights, but for last projections that a factor changes.
        live += layers * facts.hidden * (facts.heads * facts.head_dim + facts.intermediate) * width
    paths, copied = path_bytes(checkpoints, anatomies, host, width) if layers > facts.layers else (0, 0)
    return Needs(
        live=live,
        roles=parent_bytes(checkpoints, anatomies, host),
        token=2 * layers * facts.kv_heads * facts.head_dim * width,
        activation=(8 * facts.hidden + 3 * facts.intermediate) * width,
        embedded=facts.hidden * width,
        row=min(facts.max_positions, ROW_TOKENS),
        paths=paths,
        copied=copied,
    )


def path_bytes(
    checkpoints: Mapping[ModelRef, Checkpoint | RemoteCheckpoint],
    anatomies: Mapping[ModelRef, Anatomy],
    host: ModelRef,
    width: int,
) -> tuple[int, int]:
    """`paths` and `copied` of `Needs`; arguments as for `needs_of`.

    A parent's own tensor is on the path where it is on the card and rounding changes nothing: its role is one of the host's
    (others are read from their files), it is of the host's dtype, and of the live one's width.
    """
    own = anatomies[host]
    stored = {role: own.tensors[name].dtype for role, name in own.roles.items()}
    paths = copied = 0
    for ref, anatomy in anatomies.items():
        if ref == host:
            continue
        if anatomy.layout is None or own.layout is None:
            paths, copied = paths + checkpoints[ref].total_bytes, copied + checkpoints[ref].total_bytes
            continue
        for role, name in anatomy.roles.items():
            tensor = anatomy.tensors[name]
            if decoder_layer(role) is None or not tensor.is_float:
                continue
            count = math.prod(tensor.shape)
            paths += count * width
            if tensor.dtype != stored.get(role) or tensor.bytes != count * width:
                copied += count * width
    return paths, copied


def parent_bytes(
    checkpoints: Mapping[ModelRef, Checkpoint | RemoteCheckpoint], anatomies: Mapping[ModelRef, Anatomy], host: ModelRef
) -> dict[str, int]:
    """Role → bytes of all models' tensors of it; arguments as for `needs_of`.

    Names and sizes of pickled tensors are known only after a download: such a model counts whole, as if shared out by layer.
    """
    roles, layers = anatomies[host].roles, anatomies[host].facts.layers
    found: Counter[str] = Counter()
    for ref, anatomy in anatomies.items():
        if anatomy.layout is None or anatomies[host].layout is None:
            share, rest = divmod(checkpoints[ref].total_bytes, layers)
            found.update({f"layer {layer}": share + (rest if layer == 0 else 0) for layer in range(layers)})
            continue
        tensors = {role: anatomy.tensors[name] for role, name in anatomy.roles.items() if role in roles}
        found.update({role: tensor.bytes for role, tensor in tensors.items() if tensor.is_float})
    return dict(found)


def free_host_memory() -> int:
    """Bytes of host memory that may be taken: of the machine, and of the container if there is one."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        # Files that were read and are not in use count as taken there; they make room when it is needed.
        counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        limit += int(counted.get("inactive_file", 0))
    except (OSError, ValueError):
        return free
    return max(0, min(free, limit))


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for matrices of bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return "amx_bf16" in next((line for line in lines if line.startswith("flags")), "").split()


def this_machine() -> Machine:
    """As `nvidia-smi` and the system say; for those who do not load torch."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Machine(None, free_host_memory())
    # The first that CUDA may see. nvidia-smi numbers cards by their place on the bus, as CUDA does where they are alike.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = "" if visible is None else visible.split(",")[0].strip()
    if visible is not None and first in ("", "-1"):
        return Machine(None, free_host_memory())
    # It does not know every name that CUDA takes: parts of cards, shortened ones.
    for more in ([f"--id={first}"], []) if first else ([],):
        # Old drivers do not tell of the capability.
        for wanted in ("name,memory.free,compute_cap", "name,memory.free"):
            card = _asked([program, f"--query-gpu={wanted}", "--format=csv,noheader,nounits", *more])
            if card is not None:
                return card
    return Machine(None, free_host_memory())


def _asked(command: Sequence[str]) -> Machine | None:
    """What `nvidia-smi` says of the first card that it tells of."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()[0]
        name, free, *capability = (each.strip() for each in said.split(","))
        return Machine(int(free) << 20, free_host_memory(), name, bfloat16=not capability or float(capability[0]) >= 8)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
