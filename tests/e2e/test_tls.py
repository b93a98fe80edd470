"""TLS on both sides, and IPv6."""

import os
import socket
import ssl

import httpx
import openai
import pytest
from harness import check_counts, check_idle, free_port, wait_for
from harness.certs import Authority
from harness.upstream import Upstream

MODEL = "mock-model"
HELLO = [{"role": "user", "content": "Hello"}]
BODY = {"model": MODEL, "messages": HELLO, "max_tokens": 20}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def context(authority):
    return ssl.create_default_context(cafile=str(authority.root))


def serial(gateway, authority):
    """The serial number of the certificate that a new connection is shown."""
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as raw:
        with context(authority).wrap_socket(raw, server_hostname="localhost") as tls:
            return tls.getpeercert()["serialNumber"]


def swap(link, directory):
    """Points a symlink elsewhere at one stroke, as kubelet does."""
    aside = link.with_suffix(".new")
    os.symlink(directory, aside)
    os.replace(aside, link)


@pytest.fixture
def secured(gateways, sims, authority, tmp_path):
    """A gateway whose certificate is reached through a symlink to a directory."""
    chain, _ = authority.issue("first", "localhost", "127.0.0.1")
    link = tmp_path / "current"
    os.symlink(chain.parent, link)
    sim = sims()
    tls = {"certificate_file": str(link / "tls.crt"), "key_file": str(link / "tls.key")}
    port = free_port()
    gateway = gateways([sim.url], server={"listen": f"127.0.0.1:{port}", "tls": tls})
    gateway.port = port
    yield gateway, link, sim
    check_idle(gateway)
    check_counts(gateway, [sim])


def test_clients_over_tls(secured, authority):
    gateway, _, _ = secured
    with httpx.Client(verify=context(authority), base_url=gateway.url, timeout=20) as client:
        whole = client.post("/v1/chat/completions", json=BODY)
        assert whole.status_code == 200 and whole.json()["usage"]["completion_tokens"] == 20
        with client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as answer:
            assert "".join(answer.iter_text()).rstrip().endswith("data: [DONE]")
        large = {**BODY, "messages": [{"role": "user", "content": "word " * 300_000}]}
        assert client.post("/v1/chat/completions", json=large).status_code == 200
        long = client.post("/v1/chat/completions", json={**BODY, "max_tokens": 50_000})
        assert long.json()["usage"]["completion_tokens"] == 50_000


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions(secured, authority, version):
    gateway, _, _ = secured
    chosen = context(authority)
    chosen.minimum_version = chosen.maximum_version = version
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=BODY, verify=chosen)
    assert answer.status_code == 200


def test_plain_http_and_noise_do_no_harm(secured, authority):
    gateway, _, _ = secured
    for noise in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 99, b""):
        with socket.create_connection(("127.0.0.1", gateway.port), 5) as raw:
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
    assert serial(gateway, authority)


def test_a_certificate_rotated_by_symlink_swap(secured, authority):
    gateway, link, _ = secured
    first = serial(gateway, authority)
    second_chain, _ = authority.issue("second", "localhost", "127.0.0.1")
    verify = context(authority)
    with httpx.Client(verify=verify, base_url=gateway.url, timeout=20) as kept:
        assert kept.post("/v1/chat/completions", json=BODY).status_code == 200
        before = gateway.admin.metrics().sum("sluice_connections_accepted_total")
        swap(link, second_chain.parent)
        wait_for(lambda: serial(gateway, authority) != first, 5, "the new certificate")
        # The connection from before goes on with what it had.
        assert kept.post("/v1/chat/completions", json=BODY).status_code == 200
        assert before >= 1
    third, _ = authority.issue("third", "localhost", "127.0.0.1")
    second = serial(gateway, authority)
    swap(link, third.parent)
    gateway.hangup()
    wait_for(lambda: serial(gateway, authority) not in (first, second), 5, "the third")


def test_a_bad_certificate_is_refused_and_the_old_one_kept(secured, authority, tmp_path):
    gateway, link, _ = secured
    gateway.expected += ["configuration refused"]
    first = serial(gateway, authority)
    other_chain, _ = authority.issue("other", "localhost")
    _, foreign_key = authority.issue("foreign", "localhost")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "tls.crt").write_bytes(other_chain.read_bytes())
    (mixed / "tls.key").write_bytes(foreign_key.read_bytes())
    swap(link, mixed)
    gateway.process.wait_line("configuration refused", timeout=5)
    assert serial(gateway, authority) == first


def secure_upstream(authority, name, *identities, **more):
    certificate = [str(path) for path in authority.issue(name, *identities)]
    return Upstream(certificate=certificate, **more)


def over_https(gateways, url, **endpoint):
    endpoint = {"name": "far", "url": url, "engine": "openai", **endpoint}
    # One shard, so that what is pooled is found again.
    return gateways(
        endpoints=[endpoint],
        models=[{"name": MODEL, "endpoints": ["far"]}],
        runtime={"shards": 1},
    )


def test_an_https_endpoint_with_its_own_authority(gateways, authority):
    upstream = secure_upstream(authority, "up", "127.0.0.1")
    gateway = over_https(gateways, upstream.url, ca_file=str(authority.root))
    for _ in range(3):
        answer = httpx.post(gateway.url + "/v1/chat/completions", json=BODY)
        assert answer.status_code == 200, answer.text
    assert len(upstream.requests) == 3
    assert gateway.admin.metrics().sum("sluice_endpoint_reused_total") == 2
    upstream.stop()


def test_the_server_name_is_sent_and_verified(gateways, authority):
    upstream = secure_upstream(authority, "up", "api.example.test")
    url = upstream.url.replace("127.0.0.1", "localhost")
    gateway = over_https(
        gateways, url, ca_file=str(authority.root), server_name="api.example.test"
    )
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=BODY)
    assert answer.status_code == 200, answer.text
    assert upstream.names[-1] == "api.example.test"
    assert upstream.requests[-1].one("host").startswith("localhost:")
    upstream.stop()


@pytest.mark.parametrize("wrong", ["name", "authority", "system roots"])
def test_what_cannot_be_verified_gets_nothing(gateways, authority, tmp_path, wrong):
    names = ["other.example.test"] if wrong == "name" else ["127.0.0.1"]
    upstream = secure_upstream(authority, "up", *names)
    root = authority.root
    if wrong == "authority":
        (tmp_path / "else").mkdir()
        root = Authority(tmp_path / "else").root
    more = {} if wrong == "system roots" else {"ca_file": str(root)}
    gateway = over_https(gateways, upstream.url, **more)
    gateway.expected += ["endpoint is down"]
    answer = httpx.post(gateway.url + "/v1/chat/completions", json=BODY)
    assert answer.status_code == 502 and upstream.requests == []
    # Its probe is a handshake where there is no path to ask for, and the log says why that failed.
    why = lambda: [line["why"] for line in gateway.log() if line["msg"] == "endpoint is down"]
    wait_for(why, 20, "the probes")
    assert "certificate" in why()[0], why()
    assert gateway.admin.metrics().sum("sluice_endpoint_failures_total", **{"class": "tls"}) > 0
    upstream.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_streams_over_tls_on_both_sides(gateways, authority, tmp_path, stream):
    """A fragment of a record is not a fragment of an event: split at awkward places."""
    events = [f'data: {{"choices":[{{"index":0,"delta":{{"content":"{n}"}}}}]}}\n\n' for n in range(50)]
    finish = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    text = "".join(events) + finish + "data: [DONE]\n\n"

    def answer(_):
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        for at in range(0, len(text), 7):
            piece = text[at : at + 7].encode()
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"

    upstream = secure_upstream(authority, "up", "127.0.0.1", answer=answer if stream else None)
    chain, key = authority.issue("mine", "127.0.0.1")
    port = free_port()
    endpoint = {
        "name": "far", "url": upstream.url, "engine": "openai", "ca_file": str(authority.root)
    }
    gateway = gateways(
        endpoints=[endpoint],
        models=[{"name": MODEL, "endpoints": ["far"]}],
        server={
            "listen": f"127.0.0.1:{port}",
            "tls": {"certificate_file": str(chain), "key_file": str(key)},
        },
    )
    answered = httpx.post(
        gateway.url + "/v1/chat/completions",
        json={**BODY, "stream": stream},
        verify=context(authority),
    )
    assert answered.status_code == 200
    if stream:
        assert answered.text == text
    upstream.stop()


def test_ipv6_on_both_sides(gateways, tmp_path):
    try:
        upstream = Upstream(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    port, admin_port = free_port("::1"), free_port("::1")
    gateway = gateways(
        [upstream.url],
        start=False,
        server={"listen": f"[::1]:{port}"},
        admin={"listen": f"[::1]:{admin_port}"},
    )
    gateway.start()
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="any", max_retries=0)
    assert client.chat.completions.create(model=MODEL, messages=HELLO).choices
    assert upstream.requests[-1].one("host") == f"[::1]:{upstream.port}"
    wait_for(lambda: gateway.rows() and gateway.rows()[-1]["client"] == "::1", 5, "the row")
    upstream.stop()
