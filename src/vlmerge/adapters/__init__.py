"""Models with a LoRA adapter of peft's: merged tensor by tensor when a tensor is read, nothing is written beside.

`open_model` is how every verb opens a model; the checkpoint that it gives is like any other.
"""

from __future__ import annotations

from vlmerge.adapters.opening import open_model

__all__ = ["open_model"]
