"""Trained states to ordinary `transformers` folders: `base/`, `ja/` and `vlm/`, float16 safetensors.

The VLM is written in the layout of the LLaVA checkpoints on the hub (`language_model.model.*`, `vision_tower.*`,
`multi_modal_projector.*`), which `transformers` reads and renames on loading.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, CLIPImageProcessor, GenerationConfig, LlavaProcessor

from zoo.models import IMAGE_PIXELS, PATCH_PIXELS
from zoo.tokenizer import BOS, CHAT_TEMPLATE, EOS, PAD
from zoo.train import FINISHED_VLM, Workshop

GENERATION = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)


def write(shop: Workshop, folder: Path) -> None:
    """Writes the three checkpoints under `folder`."""
    for name in ("base", "ja"):
        _write_decoder(shop, name, folder / name)
    _write_vlm(shop, folder / "vlm")


def _write_decoder(shop: Workshop, name: str, folder: Path) -> None:
    vlm = shop.model((name,))
    decoder = AutoModelForCausalLM.from_config(vlm.config.text_config)
    decoder.model.load_state_dict(vlm.model.language_model.state_dict())
    decoder.lm_head.load_state_dict(vlm.lm_head.state_dict())
    decoder.generation_config = GENERATION
    decoder.to(torch.float16).save_pretrained(folder)
    shop.world.tokenizer.save_pretrained(folder)


def _write_vlm(shop: Workshop, folder: Path) -> None:
    vlm = shop.model(FINISHED_VLM)
    vlm.generation_config = GENERATION
    vlm.to(torch.float16).save_pretrained(folder)
    images = CLIPImageProcessor(
        do_resize=True,
        size={"shortest_edge": IMAGE_PIXELS},
        do_center_crop=True,
        crop_size={"height": IMAGE_PIXELS, "width": IMAGE_PIXELS},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    LlavaProcessor(
        image_processor=images,
        tokenizer=shop.world.tokenizer,
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
