"""A limit of open files bounds the clients, and nobody else."""

import socket

import httpx
from harness import Process, binary, wait_for

BODY = {"model": "mock-model", "max_tokens": 2, "messages": []}
HEAD = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


def test_idle_clients_leave_descriptors_for_all_the_rest(driver, gateways, sims):
    gateway = gateways([sims().url], start=False)
    limited = ["bash", "-c", 'ulimit -n 256; exec "$@"', "bash"]
    argv = [*limited, binary("sluice"), "serve", "--config", gateway.file]
    gateway.process = Process(argv, cwd=gateway.directory)
    gateway.wait_serving()
    gateway.process.wait_line("fewer client connections fit")
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(260)]
        try:
            refused = lambda: gateway.admin.metrics().sum("sluice_connections_refused_total")
            wait_for(lambda: refused() > 100, 10, "refusals")
            # Whoever is connected is served, and so is everything that is not a client's.
            assert client.post("/v1/chat/completions", json=BODY).status_code == 200
            idle[0].sendall(HEAD)
            assert idle[0].recv(4096).startswith(b"HTTP/1.1 200")
            assert idle[-1].recv(4096).startswith(b"HTTP/1.1 503")
            gateway.reload()
            assert gateway.process.descriptors() < 256
        finally:
            for connection in idle:
                connection.close()
    metrics = gateway.admin.metrics()
    assert metrics.sum("sluice_endpoint_failures_total") == 0
    assert metrics.sum("sluice_config_reloads_total", result="invalid") == 0
