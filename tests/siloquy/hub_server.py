"""A real WebSocket server over TLS on loopback that does no more than a hub's end of a channel."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from siloquy.codec import MAX_MESSAGE_BYTES
from siloquy.errors import SiloquyError
from siloquy.settings import HubLink
from siloquy.trust.identity import Identity
from siloquy.trust.roster import SignedRoster
from siloquy.wire.channel import MOST_IN_FLIGHT, Channel, Handler, Newcomer, welcome


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed TLS certificate for loopback; ``hash`` is the SHA-256 of its DER form."""

    path: Path
    key: Path
    hash: bytes


def new_certificate(folder: Path, name: str) -> Certificate:
    """A fresh certificate in ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
    ]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(path, key_path, hashlib.sha256(der).digest())


def server_tls(certificate: Certificate) -> ssl.SSLContext:
    """The server's end of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    return context


@dataclass(slots=True)
class HubServer:
    """What the tests see of a running hub."""

    link: HubLink
    server: Server
    lines: asyncio.Queue[Channel] = field(default_factory=asyncio.Queue)
    newcomers: list[Newcomer] = field(default_factory=list)
    refused: asyncio.Queue[Exception] = field(default_factory=asyncio.Queue)


@contextlib.asynccontextmanager
async def listening(
    certificate: Certificate,
    identity: Identity,
    roster: SignedRoster,
    handlers: Mapping[str, Handler] | None = None,
    most_in_flight: int = MOST_IN_FLIGHT,
    port: int = 0,
) -> AsyncIterator[HubServer]:
    """A hub that welcomes nodes and answers them with ``handlers``."""

    async def serve_node(socket: ServerConnection) -> None:
        try:
            newcomer = await welcome(socket, identity, certificate.hash, roster)
        except (SiloquyError, ConnectionClosed) as error:
            await hub.refused.put(error)
            return
        hub.newcomers.append(newcomer)
        channel = Channel(socket, newcomer.card.node, handlers or {}, most_in_flight)
        await hub.lines.put(channel)
        await channel.run()

    async with serve(
        serve_node,
        "127.0.0.1",
        port,
        ssl=server_tls(certificate),
        max_size=MAX_MESSAGE_BYTES,
        compression=None,
    ) as server:
        hub = HubServer(link_to(server, certificate), server)
        yield hub


def link_to(server: Server, certificate: Certificate) -> HubLink:
    """How a node finds ``server``, trusting ``certificate``."""
    port = next(iter(server.sockets)).getsockname()[1]
    return HubLink(f"wss://127.0.0.1:{port}", str(certificate.path))
