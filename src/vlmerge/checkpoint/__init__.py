"""Models on disk and on the hub: found, checked, read by tensor, and written so that nothing half-done looks finished.

`resolve` gives a `Checkpoint` (everything is on this machine) or, for headers only, a `RemoteCheckpoint` (configs,
tokenizer and tensor shapes, no weights). Importing this package imports neither torch nor the hub's client.
"""

from __future__ import annotations

from vlmerge.checkpoint.adapter_files import AdapterFiles, MergedAdapter, licence_of, pinned_ref
from vlmerge.checkpoint.headers import Headers
from vlmerge.checkpoint.hub import RemoteCheckpoint
from vlmerge.checkpoint.progress import Progress
from vlmerge.checkpoint.reader import Checkpoint, open_checkpoint
from vlmerge.checkpoint.reference import resolve, resolve_adapter
from vlmerge.checkpoint.verified import Verified
from vlmerge.checkpoint.writer import write_checkpoint

__all__ = [
    "AdapterFiles",
    "Checkpoint",
    "Headers",
    "MergedAdapter",
    "Progress",
    "RemoteCheckpoint",
    "Verified",
    "licence_of",
    "open_checkpoint",
    "pinned_ref",
    "resolve",
    "resolve_adapter",
    "write_checkpoint",
]
