"""Files of a model that name Python code of its own (`auto_map`). It is never run: what it would do, nobody here knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vlmerge.checkpoint.guarded import TOKENIZER_BYTES, guarded
from vlmerge.checkpoint.layout import CONFIG

KEY = "auto_map"
MAY_NAME_CODE = ("tokenizer_config.json", "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def files_naming_code(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """config.json and the files beside it that name code, as far as they can be read."""
    found = [CONFIG] if config.get(KEY) else []
    for name in MAY_NAME_CODE:
        if (folder / name).is_file():
            try:
                text: Any = json.loads(guarded(folder, name, TOKENIZER_BYTES).read_bytes())
            except (OSError, ValueError, RecursionError):
                continue  # Whoever needs the file will say what is wrong with it.
            if isinstance(text, dict) and cast("dict[str, Any]", text).get(KEY):
                found.append(name)
    return found
