"""Who may connect."""

import base64
from pathlib import Path

import pytest
from websockets.datastructures import Headers

from cerebella.serving.access import check_exposure, is_authorized, is_loopback, read_token, tls_context

TLS = Path(__file__).parent / "tls"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
        ("::", False),
        ("10.0.0.3", False),
        ("robot.lab", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_other_machines_need_a_token() -> None:
    check_exposure("127.0.0.1", None)
    check_exposure("0.0.0.0", "secret-token")
    for token in (None, ""):
        with pytest.raises(ValueError, match="set a token"):
            check_exposure("0.0.0.0", token)


def basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Api-Key secret-token", True),
        ("api-key secret-token", True),
        ("Bearer secret-token", True),
        (basic(b"robot:secret-token"), True),
        (basic(b":secret-token"), True),
        (basic(b"secret-token"), False),
        (basic(b"\xff\xfe"), False),
        ("Basic ???", False),
        ("Api-Key secret-toke", False),
        ("Api-Key secret-token2", False),
        ("Api-Key ", False),
        ("Api-Key sécret", False),
        ("secret-token", False),
        ("Digest secret-token", False),
        (None, False),
    ],
)
def test_the_token_is_taken_in_three_ways(header: str | None, expected: bool) -> None:
    headers = Headers() if header is None else Headers(Authorization=header)
    assert is_authorized(headers, "secret-token") is expected
    assert is_authorized(headers, None)


def test_two_tokens_are_none() -> None:
    headers = Headers(Authorization="Api-Key secret-token")
    headers["Authorization"] = "Api-Key secret-token"
    assert not is_authorized(headers, "secret-token")


def test_a_token_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token\n")
    assert read_token(tmp_path / "token") == "secret-token"
    for bad in ("", "short", "two words here", "two\nlines-of-it", "sécret-token"):
        (tmp_path / "token").write_text(bad)
        with pytest.raises(ValueError, match="one token of 8 or more"):
            read_token(tmp_path / "token")


def test_tls_needs_both_files_and_they_must_fit(tmp_path: Path) -> None:
    assert tls_context(None, None) is None
    assert tls_context(TLS / "certificate.pem", TLS / "key.pem") is not None
    with pytest.raises(ValueError, match="only one of them"):
        tls_context(TLS / "certificate.pem", None)
    with pytest.raises(FileNotFoundError, match="no file"):
        tls_context(TLS / "certificate.pem", tmp_path / "none.pem")
    with pytest.raises(ValueError, match="not a certificate and its key"):
        tls_context(TLS / "key.pem", TLS / "key.pem")
