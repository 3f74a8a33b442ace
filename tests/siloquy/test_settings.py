"""Settings there and back, and what is said about wrong ones."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy import settings
from siloquy.errors import SettingsError
from siloquy.settings import FILE_NAME, GatewaySettings, HubSettings, SiloSettings, read, write
from tests.siloquy.strategies import messages, same

SERVICES = [SiloSettings, HubSettings, GatewaySettings]
services = pytest.mark.parametrize("kind", SERVICES, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("settings")


def written(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text)
    return folder


# -- there and back -------------------------------------------------------------------------------


@services
@given(data=st.data())
def test_settings_come_back_as_they_were(kind: type[Any], desk: Path, data: st.DataObject) -> None:
    value = data.draw(messages(kind))
    write(value, desk)
    assert same(read(kind, desk, {}), value)


@services
def test_an_empty_file_gives_the_defaults(kind: type[Any], tmp_path: Path) -> None:
    assert read(kind, written(tmp_path, ""), {}) == kind()


@services
def test_the_written_file_explains_every_section(kind: type[Any], tmp_path: Path) -> None:
    text = write(kind(), tmp_path).read_text()
    sections = re.findall(r"^\[", text, re.MULTILINE)
    assert sections
    assert len(re.findall(r"^# [A-Z].*\n\[", text, re.MULTILINE)) == len(sections)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@services
def test_the_written_file_shows_every_key(kind: type[Any], tmp_path: Path) -> None:
    data = tomllib.loads(write(kind(), tmp_path).read_text())
    assert same(data, _listed(dataclasses.asdict(kind())))


def test_notes_replace_a_sections_comment(tmp_path: Path) -> None:
    text = write(SiloSettings(), tmp_path, {"policy": "Nothing leaves yet."}).read_text()
    assert "# Nothing leaves yet.\n[policy]" in text


def test_a_fresh_silo_lets_nothing_out() -> None:
    assert SiloSettings().policy.gateways == ()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SiloSettings().policy.gateways = ("ward",)  # type: ignore[misc]


def test_a_text_of_two_lines_comes_back(tmp_path: Path) -> None:
    value = SiloSettings(hub=settings.HubLink(certificate="a\nb"))
    write(value, tmp_path)
    assert read(SiloSettings, tmp_path, {}) == value


def test_a_section_without_a_key_keeps_the_keys_default(tmp_path: Path) -> None:
    link = read(SiloSettings, written(tmp_path, '[hub]\nurl = "wss://h:1"\n'), {}).hub
    assert link == settings.HubLink(url="wss://h:1")


def test_a_gateway_with_another_host_keeps_its_port(tmp_path: Path) -> None:
    listen = read(GatewaySettings, written(tmp_path, '[listen]\nhost = "0.0.0.0"\n'), {}).listen
    assert listen.port == GatewaySettings().listen.port


def test_a_gateway_with_another_host_by_environment_keeps_its_port(tmp_path: Path) -> None:
    environment = {"SILOQUY_LISTEN_HOST": "localhost"}
    listen = read(GatewaySettings, written(tmp_path, ""), environment).listen
    assert listen.port == GatewaySettings().listen.port


@pytest.mark.parametrize("kind", [HubSettings, GatewaySettings])
def test_each_service_listens_on_its_own_port(tmp_path: Path, kind: type[Any]) -> None:
    listen = read(kind, written(tmp_path, "[listen]\n"), {}).listen
    assert listen == kind().listen


# -- wrong files ----------------------------------------------------------------------------------


def test_a_missing_file_asks_for_init(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is missing") as caught:
        read(SiloSettings, tmp_path, {})
    assert "init" in caught.value.hint


@pytest.mark.parametrize("text", ["[hub", "url = ", "[hub]\nurl = 1\nurl = 2", "x = '\0'"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=FILE_NAME):
        read(SiloSettings, written(tmp_path, text), {})


def test_a_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'[hub]\nurl = "\xe9"\n')
    with pytest.raises(SettingsError):
        read(SiloSettings, tmp_path, {})


def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown key policy\.passages_per_dya") as caught:
        read(SiloSettings, written(tmp_path, "[policy]\npassages_per_dya = 5\n"), {})
    assert caught.value.hint == "did you mean policy.passages_per_day?"


def test_an_unknown_section_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown key polcy") as caught:
        read(SiloSettings, written(tmp_path, "[polcy]\n"), {})
    assert caught.value.hint == "did you mean policy?"


def test_an_unknown_key_like_no_other_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown key qqq") as caught:
        read(SiloSettings, written(tmp_path, "qqq = 1\n"), {})
    assert caught.value.hint == "known keys: hub, encoder, policy, index, profile, monitor"


WRONG = {
    "text for a number": (
        '[policy]\npassages_per_day = "many"',
        "policy.passages_per_day must be int",
    ),
    "truth for a number": (
        "[policy]\npassages_per_day = true",
        "policy.passages_per_day must be int",
    ),
    "a float for an integer": (
        "[policy]\npassages_per_day = 5.0",
        "policy.passages_per_day must be",
    ),
    "a number for truth": ("[hub]\nproxy = 1", "hub.proxy must be bool"),
    "a number for text": ("[hub]\nurl = 1", "hub.url must be str"),
    "text for a list": ('[policy]\ngateways = "ward"', "policy.gateways must be a list of texts"),
    "a list of numbers": ("[policy]\ngateways = [1]", "policy.gateways must be a list of texts"),
    "a word outside the vocabulary": ('[index]\nkind = "magic"', "index.kind is 'magic'"),
    "a list for a word": ('[index]\nkind = ["flat"]', "index.kind is"),
    "a number for a section": ("hub = 1", "hub must be a section"),
    "a list of sections": ("[[hub]]", "hub must be a section"),
    "a date for text": ("[hub]\nurl = 2020-01-01", "hub.url must be str"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_another_type_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        read(SiloSettings, written(tmp_path, text), {})


def test_an_integer_passes_for_a_float(tmp_path: Path) -> None:
    ask = read(GatewaySettings, written(tmp_path, "[ask]\ndeadline_s = 5\n"), {}).ask
    assert same(ask.deadline_s, 5.0)


# -- environment ----------------------------------------------------------------------------------


OVERRIDES: dict[str, tuple[str, str, object]] = {
    "plain text": ("SILOQUY_HUB_URL", "wss://hub.example:443", "wss://hub.example:443"),
    "quoted text": ("SILOQUY_HUB_URL", '"wss://hub.example"', "wss://hub.example"),
    "a number": ("SILOQUY_POLICY_PASSAGES_PER_DAY", "7", 7),
    "truth": ("SILOQUY_HUB_PROXY", "false", False),
    "a list": ("SILOQUY_POLICY_GATEWAYS", '["ward", "clinic"]', ("ward", "clinic")),
    "a word": ("SILOQUY_INDEX_KIND", "hnsw", "hnsw"),
    "nothing": ("SILOQUY_HUB_CERTIFICATE", "", ""),
}


@pytest.mark.parametrize(("name", "text", "value"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_the_environment_overrides_the_file(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    write(SiloSettings(), tmp_path)
    _, section, key = name.lower().split("_", 2)
    loaded = read(SiloSettings, tmp_path, {name: text})
    assert getattr(getattr(loaded, section), key) == value


def test_the_environment_overrides_keys_outside_sections(tmp_path: Path) -> None:
    environment = {"SILOQUY_MOST_IN_FLIGHT": "8", "SILOQUY_CERTIFICATE": "other.pem"}
    loaded = read(HubSettings, written(tmp_path, ""), environment)
    assert (loaded.most_in_flight, loaded.certificate) == (8, "other.pem")


def test_the_environment_fills_a_section_that_the_file_lacks(tmp_path: Path) -> None:
    environment = {"SILOQUY_POLICY_GATEWAYS": '["ward"]'}
    assert read(SiloSettings, written(tmp_path, ""), environment).policy.gateways == ("ward",)


def test_the_environment_is_checked_like_the_file(tmp_path: Path) -> None:
    environment = {"SILOQUY_POLICY_PASSAGES_PER_DAY": "plenty"}
    with pytest.raises(SettingsError, match=r"policy\.passages_per_day must be int, got 'plenty'"):
        read(SiloSettings, written(tmp_path, ""), environment)


def test_the_process_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILOQUY_ENCODER_THREADS", "3")
    assert read(SiloSettings, written(tmp_path, "")).encoder.threads == 3


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    environment = {"SILOQUY_HOME": "/srv", "PATH": "/bin"}
    assert read(SiloSettings, written(tmp_path, ""), environment) == SiloSettings()


@pytest.mark.parametrize("text", ["123", "true", "2020-01-01"])
def test_a_text_from_the_environment_stays_a_text(tmp_path: Path, text: str) -> None:
    loaded = read(SiloSettings, written(tmp_path, ""), {"SILOQUY_ENCODER_MODEL": text})
    assert loaded.encoder.model == text


def test_a_section_that_is_none_is_refused_beside_an_override(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        read(SiloSettings, written(tmp_path, "hub = 1"), {"SILOQUY_HUB_URL": "wss://h:1"})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SiloSettings, "[policy]\npassages_per_day = -1"),
        (SiloSettings, "[policy]\nmost_per_question = -1"),
        (HubSettings, "[listen]\nport = 65536"),
        (GatewaySettings, "[ask]\ncoverage = nan"),
        (GatewaySettings, "[ask]\ndeadline_s = inf"),
        (GatewaySettings, "[ask]\nk = 0"),
        (GatewaySettings, "[ask]\nk = 101"),
        (GatewaySettings, "[ask]\ncoverage = 0.0"),
        (GatewaySettings, "[ask]\ncoverage = 1.01"),
        (GatewaySettings, "[ask]\ndepth = 0"),
        (GatewaySettings, "[ask]\ndepth = 201"),
        (GatewaySettings, "[ask]\ndeadline_s = 0"),
        (GatewaySettings, "[ask]\ndeadline_s = nan"),
        (GatewaySettings, "[ask]\nanswer_floor = -inf"),
        (GatewaySettings, "[listen]\nport = 0"),
        (GatewaySettings, "[encoder]\nthreads = -1"),
        (HubSettings, "most_in_flight = 0"),
        (SiloSettings, "[index]\nchunk_tokens = 31"),
        (SiloSettings, "[index]\nchunk_tokens = 2049"),
        (SiloSettings, "[profile]\nepsilon = 0"),
        (SiloSettings, "[profile]\nepsilon = nan"),
        (SiloSettings, "[profile]\ndelta = 0.0"),
        (SiloSettings, "[profile]\ndelta = 0.01"),
        (SiloSettings, "[profile]\nyearly = nan"),
        (SiloSettings, "[profile]\nrefresh_days = -1"),
        (SiloSettings, "[profile]\nleast_passages = 0"),
    ],
)
def test_a_number_out_of_range_is_refused(tmp_path: Path, kind: type[Any], text: str) -> None:
    with pytest.raises(SettingsError, match=r"must be (above|at least|at most|below)"):
        read(kind, written(tmp_path, text), {})


def test_a_year_that_has_no_room_for_one_profile_is_refused_by_both_names(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(SiloSettings, written(tmp_path, "[profile]\nepsilon = 30\n"), {})
    assert "profile.yearly is 24.0" in caught.value.message
    assert "profile.epsilon, 30.0" in caught.value.message
    with pytest.raises(SettingsError, match="yearly"):
        read(SiloSettings, written(tmp_path, ""), {"SILOQUY_PROFILE_YEARLY": "7.9"})


@pytest.mark.parametrize(
    ("epsilon", "yearly"), [("inf", "24.0"), ("inf", "1.0"), ("30.0", "inf"), ("30.0", "30.0")]
)
def test_without_noise_or_limit_no_year_is_too_small(
    tmp_path: Path, epsilon: str, yearly: str
) -> None:
    text = f"[profile]\nepsilon = {epsilon}\nyearly = {yearly}\n"
    settings = read(SiloSettings, written(tmp_path, text), {})
    write(settings, tmp_path)
    assert read(SiloSettings, tmp_path, {}) == settings


@services
def test_every_number_has_a_range(kind: type[Any]) -> None:
    values = [kind(), *(getattr(kind(), f.name) for f in dataclasses.fields(kind))]
    fields = [f for v in values if dataclasses.is_dataclass(v) for f in dataclasses.fields(v)]
    assert [f.name for f in fields if f.type in ("int", "float") and not f.metadata] == []
