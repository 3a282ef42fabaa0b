"""API keys and the admin's key: who is let in, and whose pages a request shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from support.server_thread import MODEL, Running, running_server

from kvtier_engine.config import ApiKeyConfig, SecretSource, ServerConfig
from kvtier_engine.server.auth import BadSecret, Keys

COMPLETIONS = "/v1/completions"
KEYS = {"search": "key-of-search", "chat": "key-of-chat", "shared": "key-of-all"}


@pytest.fixture(scope="module")
def guarded(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("keys")
    keys = []
    for name, key in KEYS.items():
        (folder / name).write_text(f"{key}\n")
        secret = {"file": str(folder / name)}
        keys.append({"name": name, "secret": secret, "shared_cache": name == "shared"})
    with running_server(tiny_model, server__api_keys=keys) as server:
        yield server


@pytest.mark.parametrize(
    "sent",
    [None, "", "key-of-search", "Basic key-of-search", "Bearer", "Bearer key-of-searc", "Bearer x"],
)
@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/chat/completions", "/tokenize", "/nowhere"])
def test_without_a_known_key_there_is_a_401(guarded: Running, sent: str | None, path: str) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    guarded.core.received.clear()
    response = guarded.post(path, {"prompt": [5], "messages": []}, **headers)
    assert response.status_code == 401
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"]
    assert guarded.core.received == []


def test_probes_need_no_key(guarded: Running) -> None:
    for path in ("/health", "/ready", "/metrics", "/version", "/openapi.json"):
        assert guarded.client.get(path).status_code == 200, path
    assert guarded.client.get("/v1/models").status_code == 401


def test_openai_s_client_sends_the_key(guarded: Running) -> None:
    with openai.OpenAI(base_url=f"{guarded.thread.url}/v1", api_key=KEYS["chat"]) as client:
        assert client.models.retrieve(MODEL).id == MODEL
    with (
        openai.OpenAI(base_url=f"{guarded.thread.url}/v1", api_key="none") as client,
        pytest.raises(openai.AuthenticationError, match="Bearer"),
    ):
        client.models.list()


def test_each_key_is_a_tenant_unless_it_shares(guarded: Running) -> None:
    guarded.core.received.clear()
    for name, key in KEYS.items():
        headers = {"Authorization": f"bearer {key}"}
        body = {"prompt": [5], "max_tokens": 1, "cache_salt": f"salt of {name}"}
        assert guarded.post(COMPLETIONS, body, **headers).status_code == 200
    seen = [(request.tenant, request.salt) for request in guarded.core.requests]
    assert seen == [
        ("search", "salt of search"),
        ("chat", "salt of chat"),
        ("", "salt of shared"),
    ]


def test_without_keys_a_key_that_is_sent_means_nothing(server: Running) -> None:
    headers = {"Authorization": "Bearer whatever"}
    body = {"prompt": [5], "max_tokens": 1}
    assert server.post(COMPLETIONS, body, **headers).status_code == 200
    assert server.core.requests[0].tenant == ""


def test_without_an_admin_key_there_is_no_admin(server: Running, guarded: Running) -> None:
    for each in (server, guarded):
        assert each.client.get("/admin/cache").status_code == 404
        assert each.post("/admin/cache/clear", {"tier": "all"}).status_code == 404


class TestSecrets:
    def read(self, monkeypatch: pytest.MonkeyPatch, *values: str) -> Keys:
        keys = []
        for place, value in enumerate(values):
            monkeypatch.setenv(f"KEY_{place}", value)
            keys.append(ApiKeyConfig(name=f"k{place}", secret=SecretSource(env=f"KEY_{place}")))
        return Keys.read(ServerConfig(api_keys=tuple(keys)))

    @pytest.mark.parametrize(
        "value", ["", "short", "two words here", "schl\u00fcssel-lang", "a\x07bcdefghi"]
    )
    def test_what_is_no_key_is_refused_without_being_shown(self, monkeypatch, value: str) -> None:
        with pytest.raises(BadSecret, match=r"server.api_keys\[0\].*KEY_0") as raised:
            self.read(monkeypatch, value)
        assert not value or value not in str(raised.value)

    def test_two_names_cannot_have_one_key(self, monkeypatch) -> None:
        with pytest.raises(BadSecret, match=r"server.api_keys\[1\].*same key"):
            self.read(monkeypatch, "one-key-for-all", "one-key-for-all")

    def test_no_variable_and_no_file(self, tmp_path: Path) -> None:
        for source, words in (
            (SecretSource(env="KVTIER_NO_SUCH"), "has no `KVTIER_NO_SUCH`"),
            (SecretSource(file=tmp_path / "none"), "No such file"),
        ):
            with pytest.raises(BadSecret, match=words):
                Keys.read(ServerConfig(admin_key=source))

    def test_keys_are_nowhere_in_what_is_kept(self, monkeypatch) -> None:
        keys = self.read(monkeypatch, "a-key-of-somebody")
        assert "a-key-of-somebody" not in repr(keys)
