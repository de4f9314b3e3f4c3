"""Whether a server is warm, asked beside its websocket: what a client does that has connected and hears nothing."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLContext
from urllib.parse import urlsplit


def is_warm(url: str, tls: SSLContext | None, timeout_s: float) -> bool:
    """Whether `/healthz` at this address says 200; blocks for `timeout_s` at most.

    Args:
        url: of the websocket, ws:// or wss://. tls: how to trust the server; None uses the system's authorities.

    Raises:
        ConnectionError: nobody answers, or not in HTTP. OSError: the same, as the system says it.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port
    if address.scheme == "wss":
        connection: HTTPConnection = HTTPSConnection(host, port, timeout=timeout_s, context=tls)
    else:
        connection = HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except HTTPException as error:
        raise ConnectionError(f"{host}:{connection.port} does not answer in HTTP: {error!r}") from error
    finally:
        connection.close()
