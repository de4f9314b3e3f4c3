"""Who may connect: loopback by default, a token, TLS from files."""

import base64
import binascii
import hmac
import ipaddress
import ssl
from pathlib import Path

from websockets.datastructures import Headers


def check_exposure(host: str, token: str | None) -> None:
    """Raise a ValueError for an address that other machines can reach, unless a token is set."""
    if not is_loopback(host) and not token:
        raise ValueError(
            f"host {host!r} can be reached from other machines: set a token (--token-file), or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another host name, or the empty one, which means every interface
        return False


def is_authorized(headers: Headers, token: str | None) -> bool:
    """Whether a request carries the token: as `Api-Key`, as `Bearer`, or as the password of `Basic`.

    `Basic` is what a websocket client makes of ws://user:TOKEN@host:port, so that clients without a token option work too.
    """
    if token is None:
        return True
    given = headers.get_all("Authorization")
    if len(given) != 1:
        return False
    scheme, _, credentials = given[0].partition(" ")
    if scheme.lower() == "basic":
        try:
            credentials = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() not in ("api-key", "bearer"):
        return False
    return hmac.compare_digest(credentials.strip().encode(), token.encode())


def read_token(path: Path | str) -> str:
    """The token in a file: its only line, of printable ASCII.

    Raises:
        FileNotFoundError: no such file. ValueError: empty, several lines, or other characters.
    """
    token = Path(path).read_text(encoding="utf-8").strip()
    if len(token) < 8 or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{path} must hold one token of 8 or more printable ASCII characters without spaces")
    return token


def tls_context(certificate: Path | str | None, key: Path | str | None) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the certificate chain and private key (PEM) of two files; None without any.

    Raises:
        FileNotFoundError: no such file. ValueError: one without the other, or not a pair.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ValueError("TLS needs a certificate and its private key; only one of them was given")
    for path in (certificate, key):
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path} (TLS)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ValueError(f"{certificate} and {key} are not a certificate and its key in PEM: {error}") from error
    return context
