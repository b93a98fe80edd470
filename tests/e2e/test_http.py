"""Smoke: the plainest request there is."""

import httpx


def test_chat(driver, gateways, sims):
    sim = sims()
    gateway = gateways([sim.url])
    body = {"model": "mock-model", "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 64
