"""Keys on disk, signatures, cards and fingerprints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, SettingsError, SiloquyError
from siloquy.trust import identity as identities
from siloquy.trust.identity import Identity
from siloquy.types import Member, NodeId
from tests.siloquy.federation import self_signed

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
# The neutral point of the curve: R = the same point and S = 0 hold for it over every message.
NEUTRAL = b"\x01" + bytes(31)
P = 2**255 - 19
ORDER_8 = int("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16)
SMALL_ORDER = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, P - 1, P, P + 1, ORDER_8, P - ORDER_8)
    for sign in (0, 1)
]


@pytest.fixture
def north() -> Identity:
    return identities.create("north", "silo", "Northmoor")


@pytest.fixture
def folder(north: Identity, tmp_path: Path) -> Path:
    identities.save(north, tmp_path / "node")
    return tmp_path / "node"


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# -- signatures -----------------------------------------------------------------------------------


@given(st.text(), st.binary())
def test_a_signature_holds_for_what_was_signed(context: str, message: bytes) -> None:
    identities.verify(PUBLIC, context, message, identities.sign(KEY, context, message))


@given(st.binary(), st.binary())
def test_a_signature_holds_for_no_other_message(signed: bytes, other: bytes) -> None:
    signature = identities.sign(KEY, "card", signed)
    if signed != other:
        with pytest.raises(IntegrityError, match="signature of card does not hold"):
            identities.verify(PUBLIC, "card", other, signature)


def test_a_signature_holds_in_no_other_context() -> None:
    signature = identities.sign(KEY, "card", b"message")
    with pytest.raises(IntegrityError, match="signature of roster"):
        identities.verify(PUBLIC, "roster", b"message", signature)


def test_a_context_does_not_flow_into_the_message() -> None:
    signature = identities.sign(KEY, "roster", b"message")
    with pytest.raises(IntegrityError):
        identities.verify(PUBLIC, "ros", b"termessage", signature)


def test_a_signature_holds_under_no_other_key() -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(IntegrityError):
        identities.verify(other, "card", b"message", identities.sign(KEY, "card", b"message"))


@given(st.integers(0, 511))
def test_a_flipped_bit_breaks_a_signature(bit: int) -> None:
    signature = bytearray(identities.sign(KEY, "card", b"message"))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        identities.verify(PUBLIC, "card", b"message", bytes(signature))


@given(st.binary(max_size=70), st.binary(max_size=40))
def test_arbitrary_bytes_are_no_signature(signature: bytes, key: bytes) -> None:
    with pytest.raises(IntegrityError):
        identities.verify(key, "card", b"message", signature)


def test_a_key_under_which_everything_is_signed_is_refused() -> None:
    with pytest.raises(IntegrityError):
        identities.verify(NEUTRAL, "card", b"whatever", NEUTRAL + bytes(32))


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
def test_no_point_of_small_order_passes_for_a_key(key: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of this library or that, by the point
        identities._check_order(identities._montgomery(key))


def test_an_identity_signs_what_it_encodes(north: Identity) -> None:
    signed = north.sign("card", north.card)
    identities.verify(north.card.signing_key, "card", signed.body, signed.signature)
    assert (signed.signer, decode(Member, signed.body)) == ("north", north.card)


# -- cards and names ------------------------------------------------------------------------------


def test_a_fresh_card_is_signed_by_its_own_key(north: Identity) -> None:
    identities.check_card(north.card)


def test_no_two_identities_share_a_key() -> None:
    cards = [identities.create("north", "silo", "").card for _ in range(2)]
    assert cards[0].signing_key != cards[1].signing_key
    assert cards[0].sealing_key != cards[1].sealing_key


@pytest.mark.parametrize(
    "change",
    [
        {"node": NodeId("south")},
        {"role": "hub"},
        {"organisation": "St Brigid"},
        {"sealing_key": bytes(range(32))},
        {"signing_key": PUBLIC},
        {"proof": b""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_card_is_refused(north: Identity, change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError, match="signature of card"):
        identities.check_card(replace(north.card, **change))  # type: ignore[arg-type]


def test_a_card_with_a_bad_name_is_refused(north: Identity) -> None:
    with pytest.raises(SiloquyError, match="is no node name"):
        identities.check_card(self_signed(north, replace(north.card, node=NodeId("../hub"))))


def test_a_peers_bad_name_is_no_settings_error(north: Identity) -> None:
    with pytest.raises(IntegrityError):
        identities.check_card(self_signed(north, replace(north.card, node=NodeId("../hub"))))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32)], ids=["empty", "short", "low order"])
def test_a_card_that_nothing_can_be_sealed_to_is_refused(north: Identity, key: bytes) -> None:
    with pytest.raises(IntegrityError):
        identities.check_card(self_signed(north, replace(north.card, sealing_key=key)))


def test_a_peers_long_name_is_not_quoted_at_length(north: Identity) -> None:
    with pytest.raises(IntegrityError) as caught:
        identities.check_card(replace(north.card, node=NodeId("n" * 10_000)))
    assert len(caught.value.message) < 100


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True))
def test_a_good_name_is_a_node_id(name: str) -> None:
    assert identities.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "North", ".north", "-north", "_n", "a/b", "a b", "a\n", "ä", "n" * 64, "..", "a\x00"],
)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is no node name"):
        identities.create(name, "silo", "Northmoor")


def test_a_fingerprint_is_five_groups_of_four() -> None:
    groups = identities.fingerprint(PUBLIC).split("-")
    assert [len(group) for group in groups] == [4] * 5


@given(st.integers(0, 255))
def test_one_bit_changes_the_fingerprint(bit: int) -> None:
    other = bytearray(PUBLIC)
    other[bit // 8] ^= 1 << bit % 8
    assert identities.fingerprint(bytes(other)) != identities.fingerprint(PUBLIC)


def test_an_identity_does_not_show_its_secrets(north: Identity) -> None:
    shown = repr(north)
    secrets = [north.signing.private_bytes_raw(), north.sealing.private_bytes_raw()]
    assert not any(secret.hex() in shown or repr(secret)[2:-1] in shown for secret in secrets)


# -- files ----------------------------------------------------------------------------------------


def test_a_saved_identity_comes_back(north: Identity, folder: Path) -> None:
    loaded = identities.load(folder)
    assert loaded.card == north.card
    assert loaded.signing.private_bytes_raw() == north.signing.private_bytes_raw()
    assert loaded.sealing.private_bytes_raw() == north.sealing.private_bytes_raw()


@pytest.mark.usefixtures("open_umask")
def test_key_files_are_private_whatever_the_umask(north: Identity, tmp_path: Path) -> None:
    identities.save(north, tmp_path / "node")
    modes = [(tmp_path / "node" / f"{name}.key").stat().st_mode for name in ("signing", "sealing")]
    assert [mode & 0o777 for mode in modes] == [0o600, 0o600]


@pytest.mark.usefixtures("open_umask")
def test_a_new_folder_is_private_whatever_the_umask(north: Identity, tmp_path: Path) -> None:
    identities.save(north, tmp_path / "node")
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o700


def test_an_identity_is_never_overwritten(north: Identity, folder: Path) -> None:
    with pytest.raises(SettingsError, match="exists already"):
        identities.save(identities.create("north", "silo", "Northmoor"), folder)
    assert identities.load(folder).card == north.card


def test_the_card_holds_no_secret(north: Identity, folder: Path) -> None:
    card = (folder / "card").read_bytes()
    assert north.signing.private_bytes_raw() not in card
    assert north.sealing.private_bytes_raw() not in card


@pytest.mark.parametrize("name", ["signing.key", "sealing.key"])
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o622, 0o644])
def test_key_files_that_others_can_touch_are_refused(folder: Path, name: str, mode: int) -> None:
    (folder / name).chmod(mode)
    with pytest.raises(SettingsError, match=f"can be read by others .mode {mode:o}"):
        identities.load(folder)


def test_an_empty_folder_holds_no_identity(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no identity"):
        identities.load(tmp_path)


def test_the_signing_key_of_another_node_is_refused(folder: Path, tmp_path: Path) -> None:
    identities.save(identities.create("south", "silo", "St Brigid"), tmp_path / "other")
    (tmp_path / "other" / "signing.key").replace(folder / "signing.key")
    with pytest.raises(IntegrityError, match="do not belong together"):
        identities.load(folder)


def test_exchanged_key_files_are_refused(folder: Path) -> None:
    (folder / "signing.key").rename(folder / "kept")
    (folder / "sealing.key").rename(folder / "signing.key")
    (folder / "kept").rename(folder / "sealing.key")
    with pytest.raises(SettingsError, match="of the wrong kind"):
        identities.load(folder)


def test_a_damaged_card_is_refused(folder: Path) -> None:
    (folder / "card").write_bytes(b"\xc1")
    with pytest.raises(IntegrityError):
        identities.load(folder)


def test_the_sealing_key_of_another_node_is_refused(folder: Path, tmp_path: Path) -> None:
    identities.save(identities.create("south", "silo", "St Brigid"), tmp_path / "other")
    (tmp_path / "other" / "sealing.key").replace(folder / "sealing.key")
    with pytest.raises(IntegrityError):
        identities.load(folder)


def test_a_card_changed_on_disk_is_refused(north: Identity, folder: Path) -> None:
    (folder / "card").write_bytes(encode(replace(north.card, role="hub")))
    with pytest.raises(IntegrityError):
        identities.load(folder)


@pytest.mark.parametrize("name", ["signing.key", "sealing.key"])
def test_a_missing_key_file_is_a_settings_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SettingsError):
        identities.load(folder)


def test_a_damaged_key_file_is_a_settings_error(folder: Path) -> None:
    (folder / "signing.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(SettingsError):
        identities.load(folder)


def test_an_encrypted_key_file_is_a_settings_error(north: Identity, folder: Path) -> None:
    (folder / "signing.key").write_bytes(
        north.signing.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
    )
    with pytest.raises(SettingsError):
        identities.load(folder)


def test_a_refused_save_leaves_no_new_file(north: Identity, tmp_path: Path) -> None:
    (tmp_path / "sealing.key").write_bytes(b"kept")
    with pytest.raises(SettingsError):
        identities.save(north, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sealing.key"]


def test_sealing_keys_are_for_sealing(north: Identity) -> None:
    assert isinstance(north.sealing, X25519PrivateKey)
    assert north.sealing.public_key().public_bytes_raw() == north.card.sealing_key
