"""What the server tells of itself."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.fake_core import Script
from support.server_thread import MODEL, Running, running_server

from kvtier_engine.messages import Failed, Progress, Stats


def test_models_lists_the_served_one(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.thread.url}/v1", api_key="none") as client:
        [model] = client.models.list().data
        assert (model.id, model.owned_by, model.max_model_len) == (MODEL, "kvtier", 256)
        assert client.models.retrieve(MODEL).id == MODEL
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("some/other")


def test_health_and_version(server: Running) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    assert set(server.client.get("/version").json()) == {"version"}


def test_ready_tells_how_far_the_start_is(tiny_model: Path) -> None:
    with running_server(tiny_model, ready=False) as server:
        response = server.client.get("/ready")
        assert (response.status_code, response.json()["status"]) == (503, "starting")
        assert server.client.get("/health").status_code == 200, "alive, not ready"
        server.core.send(Progress("model", 30, 100))
        server.core.send(Progress("l3", 5, 10))
        server.core.send(Progress("model", 60, 100))
        expected = {"model": {"done": 60, "total": 100}, "l3": {"done": 5, "total": 10}}
        server.wait(lambda: server.client.get("/ready").json()["stages"] == expected, "the stages")
        for path, body in (
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
            ("/tokenize", {"prompt": "x"}),
            ("/detokenize", {"tokens": [5]}),
        ):
            response = server.post(path, body)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "not_ready"
            assert int(response.headers["retry-after"]) > 0
        server.thread.be_ready(server.client)
        assert server.client.get("/ready").json()["status"] == "ready"
        assert server.post("/v1/completions", {"prompt": "x"}).status_code == 200


def test_a_core_that_cannot_go_on_is_a_failed_server(tiny_model: Path) -> None:
    with running_server(tiny_model, ready=False) as server:
        server.core.on_shutdown = None  # the test says when it ends
        server.core.send(Failed("the weights are gone", "put them back"))
        server.wait(lambda: server.client.get("/ready").json()["status"] == "failed", "failed")
        assert "weights" in server.client.get("/ready").json()["error"]
        assert server.client.get("/health").status_code == 503
        assert "weights" in server.post("/v1/completions", {"prompt": "x"}).text
        server.thread.end_core(1)
        assert server.thread.join() == 1


def test_a_model_without_tokenizer_fails_the_start(tmp_path: Path) -> None:
    with running_server(tmp_path, ready=False) as server:
        server.core.be_ready()
        assert server.thread.join() == 1
        server.core.wait_for(lambda seen: bool(seen), 5)  # it was told to shut down


def test_metrics_join_the_core_s_and_http_s(server: Running) -> None:
    counters = {"requests_total": 3.0, 'hit_tokens_total{tier="l2"}': 7.0}
    counters['corrupt_pages_total{tier="l3",cause="che\\"ck"}'] = 2.0
    server.core.send(Stats(counters, {"requests_running": 5.0, 'tier_up{tier="l1"}': 1.0}))
    server.core.script = Script(tokens=[40, 41, 42])
    assert server.post("/v1/completions", {"prompt": "x"}).status_code == 200
    assert server.client.get("/nowhere/at/all").status_code == 404
    server.wait(lambda: server.metric("requests_running") == 5, "the core's gauges")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(server.client.get("/metrics").text)
        for sample in family.samples
    }
    assert samples["kvtier_requests_total",] == 3
    assert samples["kvtier_hit_tokens_total", ("tier", "l2")] == 7
    assert samples["kvtier_corrupt_pages_total", ("cause", 'che"ck'), ("tier", "l3")] == 2
    assert samples["kvtier_tier_up", ("tier", "l1")] == 1
    completions = ("endpoint", "/v1/completions")
    assert samples["kvtier_http_requests_total", completions, ("status", "200")] >= 1
    assert samples["kvtier_http_requests_total", ("endpoint", "other"), ("status", "404")] >= 1
    assert samples["kvtier_time_to_first_token_seconds_count",] >= 1
    assert samples["kvtier_inter_token_latency_seconds_count",] >= 2
    assert samples["kvtier_request_duration_seconds_count", completions] >= 1
    assert samples["kvtier_requests_in_flight",] == 0


def test_metrics_tell_how_the_engine_was_started(server: Running) -> None:
    text = server.client.get("/metrics").text
    [sample] = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "kvtier_config_info"
    ]
    config = server.thread.config
    assert sample.labels["version"] == server.client.get("/version").json()["version"]
    assert sample.labels["served_name"] == MODEL
    assert sample.labels["max_context_tokens"] == "256"
    assert sample.labels["page_bytes"] == str(config.cache.page_bytes)
    assert sample.labels["prefix_reuse"] == "true"
    assert not any("/" in value for value in sample.labels.values()), "no paths: anybody may read"
