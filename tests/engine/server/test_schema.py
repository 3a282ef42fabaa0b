"""The API against its own OpenAPI schema: whatever a client sends, never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from support.fake_core import Script
from support.server_thread import MODEL, Running, running_server

ADMIN_KEY = "key-of-the-admin"
ANY_TOKEN_ID = '"minimum":0,"type":"integer"'


@pytest.fixture(scope="module")
def fuzzed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    key = tmp_path_factory.mktemp("keys") / "admin"
    key.write_text(ADMIN_KEY)
    with running_server(tiny_model, server__admin_key={"file": str(key)}) as server:
        server.core.script = Script(tokens=[40, 41], stop_token=2)
        yield server


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        yield session


@pytest.fixture(scope="module")
def api(fuzzed: Running) -> schemathesis.BaseSchema:
    """The schema, narrowed to what the tiny model knows, so that requests get through."""
    text = fuzzed.client.get("/openapi.json").text
    assert ANY_TOKEN_ID in text
    schema = json.loads(text.replace(ANY_TOKEN_ID, f'{ANY_TOKEN_ID},"maximum":399'))
    models = schema["components"]["schemas"]
    for name in ("ChatRequest", "CompletionRequest", "TokenizeRequest", "DetokenizeRequest"):
        models[name]["properties"]["model"] = {"enum": [MODEL]}
    for name in ("ChatRequest", "CompletionRequest"):
        for field in ("n", "max_tokens", "min_tokens", "max_completion_tokens"):
            if field in models[name]["properties"]:
                models[name]["properties"][field] = {"type": "integer", "minimum": 1, "maximum": 3}
        models[name]["properties"]["chat_template_kwargs"] = {"enum": [{}, {"prefix": "x"}]}
        models[name]["properties"]["logit_bias"] = {"enum": [{}, {"7": -1.5}]}
    del models["TokenizeRequest"]["properties"]["messages"]  # either this or a prompt
    models["TokenizeRequest"]["required"] = ["prompt"]
    for name in ("PrefixOnlyRequest", "WarmRequest", "UnpinRequest"):
        for field in ("prompt", "messages", "all"):  # one of them or `token_ids`
            models[name]["properties"].pop(field, None)
        models[name]["required"] = ["token_ids"]
    message = models["ChatRequest"]["properties"]["messages"]["items"]
    message["properties"]["role"] = {"enum": ["system", "user", "assistant"]}
    message["additionalProperties"] = False
    return schemathesis.openapi.from_dict(schema)


OPERATIONS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/admin/cache"),
    ("POST", "/admin/cache/lookup"),
    ("POST", "/admin/cache/warm"),
    ("POST", "/admin/cache/pin"),
    ("POST", "/admin/cache/unpin"),
    ("POST", "/admin/cache/end_session"),
    ("POST", "/admin/cache/attach"),
    ("POST", "/admin/cache/detach"),
    ("POST", "/admin/cache/resize"),
    ("POST", "/admin/cache/clear"),
]


def test_every_operation_is_in_the_list(api: schemathesis.BaseSchema) -> None:
    known = {(each.ok().method.upper(), each.ok().path) for each in api.get_all_operations()}
    assert known == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_never_a_server_error(api, fuzzed, session, method: str, path: str, mode) -> None:
    """Requests that keep to the schema, and requests that do not."""
    if method == "GET" and mode is GenerationMode.NEGATIVE:
        return  # nothing to get wrong
    statuses = set()

    @settings(
        max_examples=30 if method == "POST" else 5,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        response = case.call(base_url=fuzzed.thread.url, session=session, timeout=20)
        statuses.add(response.status_code)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert set(response.json()) == {"error"}

    send()
    if mode is GenerationMode.POSITIVE and path != "/v1/models/{name}":
        assert 200 in statuses, f"nothing got through: {statuses}"
