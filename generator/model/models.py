"""The language model that the settings ask for."""

from __future__ import annotations

from pathlib import Path

from siloquy.ports import LanguageModel
from siloquy.settings import ModelSettings


def language_model(settings: ModelSettings, folder: Path) -> LanguageModel | None:
    """The model of a gateway in ``folder``, None when answers are quoted without one.

    SettingsError when the model cannot be had; a transformers model's weights are loaded later.
    """
    if settings.kind == "endpoint":
        from siloquy.generator.model.endpoint import Endpoint

        return Endpoint(settings, folder)
    if settings.kind == "transformers":
        from siloquy.generator.model.local_model import LocalModel

        return LocalModel(settings, folder)
    return None
