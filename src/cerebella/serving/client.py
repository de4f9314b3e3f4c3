"""`RemotePolicy`: a policy in another process, asked one question at a time. No torch.

For a control loop use `remote_transport.RemoteTransport`: it never blocks, and comes back by itself after a fault.
"""

import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from cerebella.interfaces import Guidance, PolicyMetadata
from cerebella.serving.arrays import pack, unpack
from cerebella.serving.errors import WireError
from cerebella.serving.exchange import headers_of, read_chunk, request_message
from cerebella.serving.handshake import Handshake, read_handshake
from cerebella.types import ActionChunk, FloatArray, Observation

_MAX_FRAME_BYTES = 64 << 20
_CLOSE_S = 1.0


class RemotePolicy:
    """A `Policy` behind a websocket. Connects when made; after an error of the connection, with the next question.

    Args:
        url: ws://host:port or wss://host:port.
        token: what the server asks for. tls: how to trust the server (wss); None uses the system's authorities.
        timeout_s: for the connection (a server that is warming up included), and for each answer.
        session: which robot, if several share this connection's server through a gateway.
        metadata: only for an openpi server that is not ours and says nothing about itself.
        keys: only for such a server: our name -> its name, for example {"images/base": "observation/image",
            "state": "observation/state", "prompt": "prompt"}; nothing else is sent then.

    Raises:
        ConnectionError: nobody answers, or the connection is refused. TimeoutError: too slow. ValueError: not such a server.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 30.0,
        session: str = "",
        metadata: PolicyMetadata | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        if (metadata is None) != (keys is None):
            raise ValueError("metadata and keys belong together: both for a foreign server, none for ours")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0 s; got {timeout_s}")
        self._url, self._token, self._tls = url, token, tls
        self._timeout_s = timeout_s
        self._session = session
        self._keys = keys
        self._seq = 0
        self._connection: ClientConnection | None = None
        self._open = ExitStack()
        self.first_frame: Mapping[Any, Any] = {}
        """All that the server said about itself."""
        self._handshake = None if metadata is None else Handshake(metadata, None)
        self._connected()

    @property
    def metadata(self) -> PolicyMetadata:
        """Of the policy behind the server; constant."""
        assert self._handshake is not None
        return self._handshake.metadata

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        """One chunk; see `Policy.infer`.

        Raises:
            ValueError: the server refuses the request, or its answer is malformed.
            ConnectionError: the connection is lost. TimeoutError: no answer in time. RuntimeError: the policy failed.
        """
        return self._ask(observation, action_prefix, None)

    def infer_guided(self, observation: Observation, guidance: Guidance) -> ActionChunk:
        """One chunk that is pulled towards a running plan; errors as `infer`."""
        return self._ask(observation, np.zeros((0, self.metadata.embodiment.action_dim), np.float32), guidance)

    def reset(self) -> None:
        """Tell the server that an episode ends."""
        if self._keys is None:
            self._seq += 1
            self._exchange(pack({"reset": True, "seq": self._seq, "session": self._session}))

    def close(self) -> None:
        """End the connection. May be called twice."""
        self._connection = None
        self._open.close()

    def __enter__(self) -> "RemotePolicy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, observation: Observation, action_prefix: FloatArray, guidance: Guidance | None) -> ActionChunk:
        self._seq += 1
        if self._keys is None:
            message = request_message(self._seq, observation, action_prefix, session=self._session, guidance=guidance)
        elif len(action_prefix) or guidance is not None:
            raise ValueError("a foreign openpi server knows neither action prefixes nor guidance")
        else:
            message = pack(_renamed(observation, self._keys))
        fields = self._exchange(message)
        try:
            return read_chunk(fields, self.metadata, observation.tick, len(action_prefix))
        except WireError:
            self.close()
            raise

    def _exchange(self, message: bytes) -> Mapping[Any, Any]:
        """Send and wait; answers to earlier questions (which timed out) are passed over."""
        connection = self._connected()
        deadline_s = time.monotonic() + self._timeout_s
        try:
            connection.send(message)
            while True:
                frame = connection.recv(timeout=max(0.0, deadline_s - time.monotonic()))
                if isinstance(frame, str):
                    raise RuntimeError(f"the server reports: {' '.join(frame.split())[-500:]}")
                fields = unpack(frame)
                if not isinstance(fields, Mapping):
                    raise WireError("the server's answer is not a map")
                if self._keys is not None or fields.get("seq") == self._seq:
                    break
        except TimeoutError:
            self.close()
            raise TimeoutError(f"{self._url} gave no answer within {self._timeout_s:g} s") from None
        except (ConnectionClosed, OSError) as error:
            self.close()
            raise ConnectionError(f"the connection to {self._url} is lost: {error}") from error
        except (WireError, RuntimeError):
            self.close()
            raise
        if "error" in fields:
            kind = ValueError if fields.get("reason") in ("schema", "syntax", "size") else RuntimeError
            raise kind(f"the server refuses the request: {fields['error']}")
        return fields

    def _connected(self) -> ClientConnection:
        """The open connection, made anew if there is none; the same policy must answer."""
        if self._connection is not None:
            return self._connection
        try:
            connection = self._open.enter_context(
                connect(
                    self._url,
                    ssl=self._tls,
                    additional_headers=headers_of(self._token),
                    compression=None,
                    proxy=None,
                    max_size=_MAX_FRAME_BYTES,
                    open_timeout=self._timeout_s,
                    close_timeout=_CLOSE_S,
                )
            )
            frame = connection.recv(timeout=self._timeout_s)
            self._greet(unpack(frame) if isinstance(frame, bytes) else frame)
        except InvalidURI as error:
            raise ValueError(f"{self._url} is no websocket address such as ws://127.0.0.1:8000") from error
        except TimeoutError:
            self.close()
            raise TimeoutError(f"{self._url} sent no first frame within {self._timeout_s:g} s") from None
        except (InvalidHandshake, ConnectionClosed, OSError) as error:
            self.close()
            raise ConnectionError(f"{self._url} refuses the connection: {error}") from error
        except ValueError:
            self.close()
            raise
        self._connection = connection
        return connection

    def _greet(self, fields: object) -> None:
        if not isinstance(fields, Mapping):
            raise WireError(f"the first frame of {self._url} is not a map")
        self.first_frame = fields
        if self._keys is not None:
            return
        handshake = read_handshake(fields)
        if self._handshake is not None and (changes := self._handshake.differences(handshake)):
            raise WireError(f"{self._url} came back with another policy: {'; '.join(changes)}. Make a new RemotePolicy")
        self._handshake = handshake


def _renamed(observation: Observation, keys: Mapping[str, str]) -> dict[str, Any]:
    """An observation under a foreign server's names."""
    ours: dict[str, Any] = {f"images/{view}": picture for view, picture in observation.images.items()}
    ours |= {"state": observation.state, "prompt": observation.prompt}
    if unknown := [name for name in keys if name not in ours]:
        raise ValueError(f"keys names {unknown[0]!r}; an observation has {', '.join(ours)}")
    return {theirs: ours[name] for name, theirs in keys.items()}
