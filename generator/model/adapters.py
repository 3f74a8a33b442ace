"""LoRA adapters on disk: whether a folder holds one, and whether it fits a model."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path

from siloquy.errors import SettingsError

WEIGHTS = "adapter_model.safetensors"
_MATRIX = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


def check_folder(folder: Path) -> None:
    """Return when ``folder`` holds a LoRA adapter that could be loaded, else SettingsError."""
    if importlib.util.find_spec("peft") is None:
        raise SettingsError("model.adapter needs peft", "pip install 'siloquy[lora]'")
    try:
        kind = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"model.adapter {folder} holds no adapter_config.json of an adapter"
        ) from None
    if kind != "LORA":
        raise SettingsError(f"model.adapter {folder} is of kind {str(kind)[:40]!r}, not LORA")
    if not (folder / WEIGHTS).is_file():
        raise SettingsError(f"model.adapter {folder} holds no {WEIGHTS}")


def check_fit(folder: Path, layers: Mapping[str, tuple[int, int]]) -> None:
    """Return when every matrix of the adapter fits its layer, else SettingsError.

    layers   inputs and outputs of each layer of the model, by name
    """
    shapes = _shapes(folder / WEIGHTS)
    found = {key: match for key in shapes if (match := _MATRIX.fullmatch(key))}
    if not found:
        raise SettingsError(f"model.adapter {folder.name} holds no LoRA matrices")
    for key, match in found.items():
        layer, side = match[1], match[2]
        width = shapes[key][-1 if side == "A" else 0]
        if layer not in layers or width != layers[layer][side == "B"]:
            wanted = f"has {layers[layer][side == 'B']}" if layer in layers else "lacks it"
            raise SettingsError(
                f"model.adapter {folder.name} does not fit: it is {width} wide at {layer}, "
                f"model.name {wanted}",
                "use the adapter with the model that it was trained on",
            )


def _shapes(path: Path) -> dict[str, list[int]]:
    """Shape of each tensor in a safetensors file, from its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        raise SettingsError(f"model.adapter {path} is damaged") from None
