"""A real nginx for tests, on loopback and over TLS, with the configuration that operators are shown."""

import asyncio
import datetime
import ipaddress
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

EXAMPLE = Path(__file__).parent.parent / "config" / "nginx.conf"

_MAIN = """
daemon off;
{user}
pid {place}/nginx.pid;
error_log {place}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log {place}/access.log;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    include {place}/site.conf;
}}
"""


def nginx_program() -> str:
    """The path of nginx; skips the test where there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("there is no nginx on this machine")
    return found


@dataclass
class Nginx:
    """nginx in front of a gateway (``to_gateway``), a member's API and its sessions, each a port of this machine.

    ``ports`` are those that it listens on, in this order, and ``ca`` is a file with its certificate and all others that
    this machine trusts.
    """

    place: Path
    ports: tuple[int, int, int]
    behind: tuple[int, int, int]
    process: subprocess.Popen[bytes] | None = None
    ca: Path = field(init=False)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self.ca = self.place / "ca.pem"

    @property
    def urls(self) -> tuple[str, str, str]:
        """Where visitors find the three."""
        gateway, member, sessions = (f"https://127.0.0.1:{port}/" for port in self.ports)
        return gateway, member, sessions

    async def start(self) -> None:
        """Start it and wait until it listens."""
        program = nginx_program()
        own = make_certificate(self.place)
        trusted = ssl.get_default_verify_paths().cafile
        self.ca.write_text(own + (Path(trusted).read_text() if trusted and Path(trusted).is_file() else ""))
        (self.place / "site.conf").write_text(self._site())
        (self.place / "nginx.conf").write_text(_MAIN.format(place=self.place, user=_user()))
        with (self.place / "nginx.log").open("wb") as log:
            argv = [program, "-e", str(self.place / "error.log"), "-c", str(self.place / "nginx.conf")]
            self.process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)  # noqa: ASYNC220 - a moment
        async with asyncio.timeout(60):
            for port in self.ports:
                while not await _listens(port):
                    assert self.process.poll() is None, self.log()
                    await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 60)

    def log(self) -> str:
        """What it has said."""
        return "".join((self.place / name).read_text() for name in ("nginx.log", "error.log"))

    @asynccontextmanager
    async def visitor(
        self, address: str = "127.0.0.5", cookies: aiohttp.CookieJar | None = None
    ) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that has an address of this machine, trusts the certificate, and waits for long."""
        connector = aiohttp.TCPConnector(
            local_addr=(address, 0), ssl=ssl.create_default_context(cafile=str(self.ca)), limit=0
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
        jar = aiohttp.DummyCookieJar() if cookies is None else cookies
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=timeout) as session:
            yield session
        # A client that is closed has only begun to close what it had over TLS.
        async with asyncio.timeout(60):
            while any(connection.laddr[0] == address for connection in psutil.Process().net_connections("tcp4")):
                await asyncio.sleep(0.01)

    def _site(self) -> str:
        """The example with this run's ports, addresses and certificate, and not a character changed beside these."""
        text = EXAMPLE.read_text()
        names = ("binder.example.org", "member-1.example.org", "hub.member-1.example.org")
        changes = [("/etc/ssl/binder", str(self.place), 6), ("/var/log/nginx", str(self.place), 3)]
        for name, port in zip(names, self.ports, strict=True):
            listening = f"    listen 443 ssl;\n    server_name {name};\n"
            changes.append((listening, f"    listen 127.0.0.1:{port} ssl;\n    server_name 127.0.0.1;\n", 1))
        for shown, port in zip((8585, 9001, 9002), self.behind, strict=True):
            changes.append((f"proxy_pass http://127.0.0.1:{shown};", f"proxy_pass http://127.0.0.1:{port};", 1))
        for before, after, times in changes:
            assert text.count(before) == times, f"{EXAMPLE} has {before!r} {text.count(before)} times"
            text = text.replace(before, after)
        return text


def make_certificate(place: Path) -> str:
    """Write ``fullchain.pem``, which is for 127.0.0.1 and signs itself, and ``privkey.pem``; returns the former."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own certificate")])
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        # What a strict check wants of a certificate that is its own authority.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    (place / "fullchain.pem").write_text(pem)
    private = place / "privkey.pem"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pem


def _user() -> str:
    """Its workers are to reach the test's directory, which is for its owner only."""
    return "user root;" if os.geteuid() == 0 else ""


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
