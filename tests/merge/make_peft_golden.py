"""Makes `golden_peft/`: a tiny model, adapters as peft saves them, and what peft's `merge_and_unload` makes of each.

Run with torch, transformers and peft installed: `python tests/merge/make_peft_golden.py`. Written with peft 0.21.2.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).parent / "golden_peft"

VARIANTS = {
    # Ranks and factors of their own, α/√r, modules saved whole.
    "patterns": {
        "r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["q_proj", "v_proj", "down_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 2, "^model.layers.0.mlp.down_proj": 3}, "alpha_pattern": {"v_proj": 6},
        "layers_to_transform": [0, 1], "modules_to_save": ["lm_head", "input_layernorm"],
    },
    # Embedding and head, of which peft saves the whole tensors, too.
    "vocabulary": {"r": 2, "lora_alpha": 3, "target_modules": ["embed_tokens", "lm_head", "k_proj"]},
    "dora": {"r": 2, "lora_alpha": 4, "use_dora": True, "target_modules": ["o_proj", "gate_proj"]},
}  # fmt: skip


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    model = LlamaForCausalLM(config).float()
    model.save_pretrained(OUT / "model")
    for name, settings in VARIANTS.items():
        adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        adapted.save_pretrained(OUT / name)
        (OUT / name / "README.md").unlink()
        path = OUT / name / "adapter_config.json"
        said = json.loads(path.read_text()) | {"base_model_name_or_path": "model"}
        path.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
        before = load_file(OUT / "model" / "model.safetensors")
        merged = {key: tensor.contiguous() for key, tensor in adapted.merge_and_unload().state_dict().items()}
        changed = {key: tensor for key, tensor in merged.items() if not torch.equal(tensor, before[key])}
        save_file(changed, OUT / name / "merged.safetensors")


if __name__ == "__main__":
    main()
