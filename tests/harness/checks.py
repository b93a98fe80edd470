"""What must hold after any test: everything given back, everything counted once."""

import time

# Kinds that rest between requests: pooled connections to endpoints, and clients that keep theirs.
RESTING = {"connection", "upstream_connection"}
# Each of those may have a read armed, with this much room at most.
RESTING_BUFFER_BYTES = 4096
RESIDENT_BYTES_MAX = 400 << 20


def wait_for(condition, timeout=10.0, what="condition", every=0.02):
    """Waits until `condition()` is true and returns what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(every)


def _busy(lifecycle, resting):
    held = {kind: numbers["outstanding"] for kind, numbers in lifecycle["sum"].items()}
    connections = sum(held[kind] for kind in RESTING)
    if held["stream_buffer"] <= connections * RESTING_BUFFER_BYTES:
        held["stream_buffer"] = 0
    return {kind: number for kind, number in held.items() if number and kind not in resting}


def settle(gateway, timeout=10.0, clients_gone=False):
    """Waits until nothing is under way; with `clients_gone`, until no client is connected either."""
    resting = {"upstream_connection"} if clients_gone else RESTING
    held = {}

    def idle():
        held.clear()
        held.update(_busy(gateway.admin.lifecycle(), resting))
        return not held

    wait_for(idle, timeout, lambda: f"ledgers still hold {held}")


def check_idle(gateway, timeout=10.0, clients_gone=False):
    """Ledgers balanced, never faulted, and at zero but for what rests; gauges at zero."""
    settle(gateway, timeout, clients_gone)
    lifecycle = gateway.admin.lifecycle()
    assert lifecycle["balanced"], lifecycle
    for shard in lifecycle["shards"]:
        assert shard["faults"] == 0 and shard["state"] == "serving", shard
    metrics = gateway.admin.metrics()
    for name in (
        "sluice_requests_in_flight",
        "sluice_endpoint_in_flight",
        "sluice_streams_open",
        "sluice_body_held_bytes",
        "sluice_panics_total",
        "sluice_ledger_faults_total",
        "sluice_usage_faults_total",
    ):
        assert metrics.has(name) and metrics.sum(name) == 0, f"{name} = {metrics.sum(name)}"
    return metrics


def check_rows(gateway, timeout=10.0):
    """Access rows written and dropped make up the requests; each admitted one has a usage row."""
    state = {}

    def complete():
        metrics = gateway.admin.metrics()
        state["requests"] = sum(metrics.outcomes().values())
        state["written"] = metrics.sum("sluice_access_rows_total", result="written")
        state["dropped"] = metrics.sum("sluice_access_rows_total", result="dropped")
        state["places"] = metrics.sum("sluice_usage_places_taken")
        return state["requests"] == state["written"] + state["dropped"] and not state["places"]

    wait_for(complete, timeout, lambda: f"rows do not make up the requests: {state}")
    metrics = gateway.admin.metrics()
    usage = metrics.sum("sluice_usage_rows_total", result="written")
    admitted = sum(1 for row in gateway.rows() if row["attempts"] > 0)
    if not metrics.sum("sluice_access_rows_total", result="dropped"):
        assert len(gateway.rows()) == metrics.sum("sluice_access_rows_total", result="written")
        assert admitted <= usage == len(gateway.rows("usage")), (admitted, usage)


def check_counts(gateway, sims, aborts=False):
    """Sluice's counts of requests, outcomes and tokens equal the servers' own.

    Holds while nobody else talks to the servers and every attempt reached one. With `aborts`,
    clients left in mid-answer: the two sides may then disagree on who was first at the very end.
    """
    check_rows(gateway)
    counts = [sim.counts() for sim in sims]
    total = {name: sum(one[name] for one in counts) for name in counts[0] if name not in
             ("requests", "last_abort_unix_ns")}
    metrics = gateway.admin.metrics()
    outcomes = metrics.outcomes()
    attempts = metrics.sum("sluice_endpoint_attempts_total")
    assert attempts == total["requests_total"], (attempts, counts)
    assert not outcomes.get("panicked") and not outcomes.get("abandoned"), outcomes
    tokens = {
        "prompt_tokens": metrics.sum("gen_ai_client_token_usage_sum", gen_ai_token_type="input"),
        "completion_tokens": metrics.sum(
            "gen_ai_client_token_usage_sum", gen_ai_token_type="output"
        ),
        "cached_tokens": metrics.sum("sluice_tokens_total", type="cached"),
    }
    reached = completed_upstream(gateway)
    if aborts:
        assert reached <= total["completed"], (reached, counts, outcomes)
        assert total["completed"] + total["aborted"] + total["errors"] + total["faulted"] == (
            total["requests_total"]
        ), counts
        return
    assert reached == total["completed"], (reached, counts, outcomes)
    for name, value in tokens.items():
        assert value == total[name], f"{name}: Sluice {value}, servers {total[name]}"


def completed_upstream(gateway):
    """Requests that an endpoint answered to the end."""
    return sum(
        1 for row in gateway.rows() if row["outcome"] == "completed" and row["attempts"] > 0
    )


def check_process(gateway, descriptors_max=None):
    """Memory and descriptors of an idle gateway."""
    resident = gateway.process.resident_bytes()
    assert resident < RESIDENT_BYTES_MAX, f"{resident >> 20} MiB resident"
    if descriptors_max is not None:
        found = gateway.process.descriptors()
        assert found <= descriptors_max, f"{found} descriptors"
