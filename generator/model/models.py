"""The language model that the settings ask for.

A back end is a file beside this, a line below, and its kind in ``ModelSettings``
(``siloquy/settings.py``); ``tests/contracts/test_language_model.py`` holds it.
"""

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
