"""A transformers model in this process: its words, its adapter, its limits and its device."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from siloquy.errors import Busy, Incompatible, SettingsError, TimedOut, Unreachable
from siloquy.generator.model import rows
from siloquy.generator.model.chat_text import prompt_ids
from siloquy.generator.model.local_model import LocalModel, device_of
from siloquy.generator.model.models import language_model
from siloquy.ports import Message
from siloquy.settings import EncoderSettings, ModelSettings
from siloquy.text.embed import model_folder as encoder_folder
from tests.generator import tiny_model

# Said by transformers of what peft calls.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
ATTENTION = ["q_proj", "v_proj"]
ASKED = [Message("system", "Answer from the passages."), Message("user", "When is it stopped?")]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.gpt2(tmp_path_factory.mktemp("tiny-gpt2"))


def need_peft() -> None:
    if importlib.util.find_spec("peft") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("peft is not installed in CI")
        pytest.skip("peft is not installed: it is in the extra lora")


@pytest.fixture(scope="module")
def adapter(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_peft()
    return tiny_model.adapter(llama, tmp_path_factory.mktemp("ward-adapter"), ATTENTION)


def local(model: Path, folder: Path | None = None, **changed: Any) -> LocalModel:
    values: dict[str, Any] = {"device": "cpu", **changed}
    settings = ModelSettings(kind="transformers", name=str(model), **values)
    return LocalModel(settings, folder or model)


async def said(model: LocalModel, text: str = "", most_tokens: int = 16) -> str:
    messages = [ASKED[0], Message("user", text)] if text else ASKED
    return "".join([piece async for piece in model.stream(messages, most_tokens)])


def reference(model: Any, tokenizer: Any, messages: Sequence[Message], most_tokens: int) -> str:
    """The likeliest words found the slow way: one question, no cache, all read again each time."""
    ids = prompt = prompt_ids(tokenizer, messages)
    for _ in range(most_tokens):
        with torch.inference_mode():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids = [*ids, token]
    return str(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True))


# -- its words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
async def test_the_words_of_a_batch_are_the_likeliest_of_each_question_alone(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model = local(request.getfixturevalue(kind), at_once=4)
    texts = ["Stop it?", "How many mg of apixaban twice a day?", "7 µg", "x"]
    together = await asyncio.gather(*(said(model, text, 12) for text in texts))
    loaded = model.load()
    alone = [
        reference(loaded.model, loaded.tokenizer, [ASKED[0], Message("user", text)], 12)
        for text in texts
    ]
    assert together == alone
    assert len(set(alone)) == len(texts)


async def test_questions_that_come_together_are_one_batch(llama: Path) -> None:
    model = local(llama, at_once=4)
    widths: list[int] = []
    model.load().model.register_forward_hook(
        lambda module, given, reply: widths.append(len(reply.logits))
    )
    lengths = [4, 6, 8, 8]
    await asyncio.gather(*(said(model, f"question {i}", n) for i, n in enumerate(lengths)))
    # Eight steps in all, and a row that is done takes no part in the next.
    assert widths == [4, 4, 4, 4, 3, 3, 2, 2]


async def test_a_reply_ends_where_the_model_ends_it(llama: Path, tmp_path: Path) -> None:
    whole = local(llama)
    loaded = whole.load()
    long = await said(whole, most_tokens=30)
    ids = loaded.tokenizer(long, add_special_tokens=False)["input_ids"]
    end = next(token for token in ids if token not in ids[:3])
    short = await said(local(ending_with(end, llama, tmp_path / "ends")), most_tokens=30)
    assert short
    assert long.startswith(short)
    assert len(short) < len(long)


def ending_with(token: int, model: Path, folder: Path) -> Path:
    """A copy of ``model`` whose settings say that ``token`` ends a reply."""
    shutil.copytree(model, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [token, 0]}))
    return folder


# -- adapters -------------------------------------------------------------------------------------


async def test_an_adapter_changes_the_words_to_those_of_peft_itself(
    llama: Path, adapter: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain, adapted = local(llama), local(llama, adapter.parent, adapter=adapter.name)
    assert adapted.name == f"{llama.name} with {adapter.name}"
    base: Any = AutoModelForCausalLM.from_pretrained(llama)
    peft = PeftModel.from_pretrained(base, str(adapter)).eval()
    wanted = reference(peft, plain.load().tokenizer, ASKED, 16)
    assert await said(adapted) == wanted
    assert await said(plain) != wanted


def test_an_adapter_of_a_wider_model_is_refused(llama: Path, tmp_path: Path) -> None:
    need_peft()
    other = tiny_model.llama(tmp_path / "wide", width=64)
    made = tiny_model.adapter(other, tmp_path / "wide-adapter", ATTENTION)
    model = local(llama, adapter=str(made))
    with pytest.raises(SettingsError, match=r"64 wide at .*q_proj, model\.name has 32"):
        model.load()


def test_an_adapter_of_another_kind_of_model_is_refused(
    gpt2: Path, llama: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"does not fit: .*model\.name lacks it"):
        local(gpt2, adapter=str(adapter)).load()
    transposed = tiny_model.adapter(gpt2, tmp_path / "gpt2-adapter", ["c_attn"])
    with pytest.raises(SettingsError, match="does not fit"):
        local(llama, adapter=str(transposed)).load()


async def test_an_adapter_of_transposed_layers_fits_its_model(gpt2: Path, tmp_path: Path) -> None:
    need_peft()
    made = tiny_model.adapter(gpt2, tmp_path / "fits", ["c_attn"])
    assert await said(local(gpt2, adapter=str(made))) != await said(local(gpt2))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "adapter_config"),
        (
            lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'),
            "not LORA",
        ),
        (
            lambda folder: (folder / "adapter_config.json").write_text(
                '{"peft_type": "LORA", "r": 9, "target_modules": ["q_proj", "v_proj"]}'
            ),
            "cannot be loaded",
        ),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "holds no adapter_model"),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x08" * 40),
            "damaged",
        ),
    ],
)
def test_a_spoilt_adapter_is_refused(
    llama: Path, adapter: Path, tmp_path: Path, spoil: Any, told: str
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "spoilt"))
    spoil(folder)
    with pytest.raises(SettingsError, match=told):
        local(llama, adapter=str(folder)).load()


def test_an_adapter_needs_peft(llama: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs peft") as caught:
        local(llama, adapter=str(adapter))
    assert "siloquy[lora]" in caught.value.hint


# -- limits ---------------------------------------------------------------------------------------


async def test_a_prompt_too_long_for_the_model_is_refused_and_the_others_answered(
    gpt2: Path,
) -> None:
    model = local(gpt2, at_once=2)
    long, short = await asyncio.gather(
        said(model, "apixaban " * 200), said(model, "x"), return_exceptions=True
    )
    assert isinstance(long, Incompatible)
    assert "takes 128 with the answer" in long.message
    assert "apixaban" not in f"{long.message}{long.hint}"
    assert short
    assert short == await said(model, "x")


async def test_a_reply_ends_at_the_end_of_the_context(gpt2: Path) -> None:
    model = local(gpt2)
    loaded = model.load()
    loaded.ends = frozenset()
    steps: list[int] = []
    loaded.model.register_forward_hook(lambda *_: steps.append(1))
    assert await said(model, most_tokens=5000)
    assert len(steps) == 128 - len(prompt_ids(loaded.tokenizer, ASKED))


async def test_too_many_waiting_are_told_to_come_back(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_BATCHES_WAITING", 2)
    model = local(llama, at_once=1)
    model.load()
    results = await asyncio.gather(
        *(said(model, f"q{i}", 4) for i in range(5)), return_exceptions=True
    )
    assert [type(result) for result in results] == [str, str, Busy, Busy, Busy]
    assert await said(model, "q9", 4)


async def test_who_waits_beyond_the_time_limit_times_out_and_costs_nothing(llama: Path) -> None:
    patient, model = local(llama, timeout_s=100), local(llama, at_once=1, timeout_s=0.3)
    patient.load()
    model._loaded = patient._loaded
    widths: list[int] = []
    model.load().model.register_forward_hook(
        lambda module, given, reply: widths.append(len(reply.logits))
    )
    first, second = await asyncio.gather(
        said(model, "a", 3000), said(model, "b", 3000), return_exceptions=True
    )
    assert isinstance(first, TimedOut)
    assert isinstance(second, TimedOut)
    assert await said(patient, "c", 3)


def test_a_row_of_a_loop_that_is_closed_is_closed_too() -> None:
    loop = asyncio.new_event_loop()
    row = rows.ModelRow((), 1, _loop=loop)
    row.give("")
    loop.close()
    assert not row.closed
    row.give("5 mg")
    assert row.closed


async def test_a_device_without_enough_memory_is_busy(llama: Path) -> None:
    model = local(llama)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate")

    hook = model.load().model.register_forward_pre_hook(full)
    with pytest.raises(Busy, match="memory"):
        await said(model)
    hook.remove()
    assert await said(model)


async def test_a_defect_is_named_by_its_type_alone(
    llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model = local(llama)

    def broken(*_: object) -> None:
        raise RuntimeError("When is it stopped?")

    model.load().model.register_forward_pre_hook(broken)
    with pytest.raises(Unreachable, match="RuntimeError") as caught:
        await said(model)
    assert "stopped" not in f"{caught.value.message}{caught.value.hint}{caplog.text}"


# -- what cannot be loaded ------------------------------------------------------------------------


def test_a_model_needs_a_name_that_is_on_this_machine(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.name is empty"):
        language_model(ModelSettings(kind="transformers"), tmp_path)
    with pytest.raises(SettingsError, match="neither a folder nor a model"):
        language_model(ModelSettings(kind="transformers", name="nobody/nothing"), tmp_path)


def test_an_encoder_cannot_write_answers(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"weights of a language model|cannot be loaded"):
        local(encoder_folder(EncoderSettings())).load()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_half_copied_model_is_refused(llama: Path, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "half"))
    (folder / missing).unlink()
    with pytest.raises(SettingsError, match="cannot be loaded"):
        local(folder).load()


def test_a_model_with_a_layer_missing_is_refused(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(llama, tmp_path / "torn"))
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SettingsError, match="lacks 1 weights"):
        local(folder).load()


def test_pickled_weights_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    torch.save(local(llama).load().model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(SettingsError, match="cannot be loaded"):
        local(folder).load()


def test_no_code_of_a_model_s_folder_is_run(llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "sly"))
    ran = tmp_path / "ran"
    (folder / "sly.py").write_text(f"open({str(ran)!r}, 'w')\nclass Sly: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "sly",
        "auto_map": dict.fromkeys(
            ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "sly.Sly"
        ),
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match="cannot be loaded"):
        local(folder).load()
    assert not ran.exists()


# -- devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "", "cuda0"])
def test_what_is_no_device_is_refused(wanted: str) -> None:
    if wanted == "cuda:" and torch.cuda.is_available():
        pytest.skip("torch shows a GPU")
    with pytest.raises(SettingsError, match=r"model\.device is"):
        device_of(wanted)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'cuda:99', this machine shows"):
        device_of("cuda:99")


def test_auto_takes_what_is_there() -> None:
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu").type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch shows no GPU")
async def test_on_a_gpu_weights_are_bfloat16_and_questions_do_not_mix(llama: Path) -> None:
    model = local(llama, device="cuda", at_once=1)
    assert model.load().model.dtype == torch.bfloat16
    alone = [await said(model, text) for text in ("a", "b")]
    assert await asyncio.gather(*(said(model, text) for text in ("a", "b"))) == alone
