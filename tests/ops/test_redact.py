"""What a bundle's text is cleaned of."""

from __future__ import annotations

import base64
import json

import pytest

from kvtier_ops.bundle.redact import MASK, Redactor


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("api_key=abc", f"api_key={MASK}"),
        ('"apiKey": "abc", "x": 1', f'"apiKey": "{MASK}", "x": 1'),
        ("DB_PASS=abc, SSHPASS=abc", f"DB_PASS={MASK}, SSHPASS={MASK}"),
        ("X-Proxy-Auth: abc", f"X-Proxy-Auth: {MASK}"),
        ("NCCL_BYPASS=1, author: me", "NCCL_BYPASS=1, author: me"),
        ("X-Api-Key: abc", f"X-Api-Key: {MASK}"),
        ("password: my pass phrase\nnext: 1", f"password: {MASK}\nnext: 1"),
        ("--token abc --port 5", f"--token {MASK} --port 5"),
        ('"command": "serve --token=abc -x"', f'"command": "serve --token={MASK} -x"'),
        ("INFO core: api_key=abc", f"INFO core: api_key={MASK}"),
        ("--token --port 5", "--token --port 5"),
        ("max_tokens: 5, page_tokens=64", "max_tokens: 5, page_tokens=64"),
        ("admin_key: {env: X}", "admin_key: {env: X}"),
        ("api_keys: ${KEYS}", "api_keys: ${KEYS}"),
        ('"api_keys": []', '"api_keys": []'),
        ('"keys": ["a", "b"]', f'"keys": ["{MASK}"]'),
        ("Authorization: Bearer abc", f"Authorization: Bearer {MASK}"),
        ("authorization: bearer   abc.def==", f"authorization: bearer {MASK}"),
        ("https://user@host/x", f"https://{MASK}@host/x"),
        ("at https://host/a@b", "at https://host/a@b"),
        ("see hf_abcdefgh12, sk-abcdefgh12", f"see {MASK}, {MASK}"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", MASK),
        ("AKIAABCDEFGHIJKLMNOP", MASK),
        ("-----BEGIN PRIVATE KEY-----\nabc\n", MASK),
        ("abc\n-----END EC PRIVATE KEY-----\nx", f"{MASK}\nx"),
        ("a known-value, known%2Dvalue", f"a {MASK}, known%2Dvalue"),
        ("12:30: ready, key pages 5", "12:30: ready, key pages 5"),
    ],
)
def test_forms(text: str, clean: str) -> None:
    redactor = Redactor(["known-value", "short", ""])
    assert redactor.clean(text) == clean
    assert (redactor.count > 0) == (text != clean)
    assert Redactor([]).clean(clean) == clean, "what is clean stays as it is"


def test_a_known_secret_is_known_in_other_forms() -> None:
    secret = 'known "välue" here'
    redactor = Redactor([secret, "known-and-longer", "known-"])
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    for text in (secret, json.dumps(secret)[1:-1], encoded, "known%20%22v%C3%A4lue%22%20here"):
        assert redactor.clean(f"<{text}>") == f"<{MASK}>", text
        assert redactor.finds(f"<{text}>".encode())
    assert redactor.clean("known-and-longer") == MASK, "nothing of it is left"


def test_numbers_stay_in_what_we_write_ourselves() -> None:
    text = '{"token_bytes": 23040, "per_token": -1.5e-07, "token": "abc"}'
    assert Redactor([]).clean(text, numbers=False) == text.replace('"abc"', f'"{MASK}"')
    assert "23040" not in Redactor([]).clean(text)


@pytest.mark.parametrize("unit", ["a", "a-", "key: ", "x=", '"', "token", "://", "[", "eyJ", "- "])
def test_a_long_line_is_gone_through_in_one_pass(unit: str) -> None:
    """Many characters of what could make a pattern begin again and again: without an end to
    its tries, the suite's own time limit is reached."""
    text = unit * (300_000 // len(unit))
    Redactor(["known-value"]).clean(text)
