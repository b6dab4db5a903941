"""The whole chain: HTTP -> gateway -> RPC -> model service."""

import json
import statistics
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from processes import FLUMEN, GENERATE, HERE, LOAD_CORE, PEERS, SERVER_CORE, free_port, real_time, serving, serving_on, spoken, start

COUNT, SIZE, INTERVAL_US = 100, 64, 50_000
# Who: what lies between gateway and service, how the gateway is spoken to, and how the service is.
CHAINS = {
    "Flumen, gRPC": ("grpc", "flumen", "flumen-grpc"),
    "Hertz + Kitex, gRPC": ("grpc", "hertz", "kitex-grpc"),
    "Flumen, TTHeader": ("ttheader", "flumen", "flumen-ttheader"),
    "Hertz + Kitex, TTHeader mux": ("ttheader mux", "hertz", "kitex-ttheader"),
    "Hertz + Kitex, TTHeader long": ("ttheader long", "hertz", "kitex-ttheader"),
}
AGAINST = {"Flumen, gRPC": ["Hertz + Kitex, gRPC"],
           "Flumen, TTHeader": ["Hertz + Kitex, TTHeader mux", "Hertz + Kitex, TTHeader long"]}


def config(transport, service, port):
    return f"""
[server]
listen = "127.0.0.1:{port}"
threads = 1
max_connections = 20000
max_connections_per_address = 20000

[log]
level = "warn"
access = "off"

[upstreams.model]
kind = "{transport}"
endpoints = ["http://{service}"]

[models."*"]
upstream = "model"
"""


@contextmanager
def chain(who):
    """Yields the addresses of gateway and service, and their processes."""
    transport, kind, _ = CHAINS[who]
    service = [GENERATE, "127.0.0.1:0"] if kind == "flumen" else [PEERS, "chain-service"]
    with serving(LOAD_CORE, service) as (behind, service), tempfile.TemporaryDirectory() as directory:
        if kind == "flumen":
            file = Path(directory) / "flumen.toml"
            port = free_port()
            file.write_text(config(transport, service, port))
            with serving_on(port, SERVER_CORE, [FLUMEN, "serve", "--config", file]) as gateway:
                yield f"127.0.0.1:{port}", service, gateway, behind
        else:
            transport, *pool = transport.split()
            command = [PEERS, "chain-gateway", "--service", service, "--transport", transport, *(["--pool", *pool] if pool else [])]
            with serving(SERVER_CORE, command) as (gateway, address):
                yield address, service, gateway, behind


def once(who, streams, interval_us, seconds, probe_every):
    with chain(who) as (address, service, gateway, behind):
        spec = {
            "address": address, "kind": CHAINS[who][1], "service": service, "direct": CHAINS[who][2], "streams": streams,
            "count": COUNT, "size": SIZE, "interval_us": interval_us, "probe_every": probe_every, "seconds": seconds,
            # Streams begin at random moments in the time that one takes.
            "ramp": max(0.2, COUNT * interval_us / 1e6 * min(1, seconds / 4)), "settle": 0.5,
            "pids": {"gateway": gateway.pid, "service": behind.pid},
        }
        report, errors = spoken(start(LOAD_CORE, [sys.executable, HERE / "load.py", json.dumps(spec)]), seconds + 60)
    if not report or not report["tokens"]:
        print(f"{who} at {streams}: no report: {str(report)[:300]} {errors[-500:]}", flush=True)
        return None
    chain_ms, direct = report["probe_ms"]["chain"], report["probe_ms"]["direct"]
    found = {
        "per_second": report["tokens"] / report["seconds"], "streams": report["streams"] / report["seconds"],
        "gateway_us": report["cpu_seconds"]["gateway"] / report["tokens"] * 1e6,
        "gateway_busy": report["cpu_seconds"]["gateway"] / report["seconds"],
        "service_us": report["cpu_seconds"]["service"] / report["tokens"] * 1e6,
        "first_p50": report["first_ms"]["p50"], "first_p99": report["first_ms"]["p99"],
        "errors": sum(report["errors"].values()),
    }
    if report["errors"]:
        print(f"{who} at {streams}: {report['errors']}", flush=True)
    if chain_ms["count"] and direct["count"]:
        found |= {"probes": chain_ms["count"], "chain_p50": chain_ms["p50"], "chain_p99": chain_ms["p99"], "direct_p50": direct["p50"],
                  "direct_p99": direct["p99"], "added_p50": chain_ms["p50"] - direct["p50"], "added_p99": chain_ms["p99"] - direct["p99"]}
    return found


def measure(quiet, rounds, seconds, concurrencies):
    """Medians over the rounds: by kind of load, concurrency and who."""
    runs, who_all = {}, list(CHAINS)
    for at in range(rounds):
        for load, interval_us, probe_every in [("paced", INTERVAL_US, 0.005), ("fast", 0, None)]:
            for concurrency in concurrencies:
                shift = at % len(who_all)
                for who in who_all[shift:] + who_all[:shift]:
                    # Whoever takes all of a core must not have all of it.
                    with real_time(wanted=load == "paced") as real:
                        found = quiet.measure(lambda: once(who, concurrency, interval_us, seconds, probe_every))
                    if found:
                        found["real_time"] = int(real)
                        runs.setdefault((load, concurrency, who), []).append(found)
    def combined(name, found):
        values = [run[name] for run in found if run.get(name) is not None]
        return None if not values else sum(values) if name == "errors" else statistics.median(values)
    return {key: {name: combined(name, found) for name in found[0]} for key, found in runs.items()}


def pair(found, name):
    values = [found.get(f"{name}_{quantile}") for quantile in ("p50", "p99")]
    return " / ".join("-" if value is None else f"{value:,.2f}" for value in values)


def table(medians, load):
    paced = load == "paced"
    rows = [f"| | streams | tokens/s | streams/s | gateway CPU, µs/token | of its core | first token p50 / p99, ms "
            + ("| of the service itself | **added** p50 / p99, ms " if paced else "") + "| service CPU, µs/token | errors |",
            "|---|---:|---:|---:|---:|---:|---:|" + ("---:|---:|" if paced else "") + "---:|---:|"]
    compared, behind = [], []
    for concurrency in sorted({key[1] for key in medians if key[0] == load}):
        for who in CHAINS:
            f = medians.get((load, concurrency, who))
            if not f:
                rows.append(f"| {who} | {concurrency} | no result |" + " |" * (8 if paced else 6))
                continue
            first = "chain" if paced else "first"
            row = (f"| {who} | {concurrency} | {f['per_second']:,.0f} | {f['streams']:,.0f} | {f['gateway_us']:.2f} | {f['gateway_busy']:.0%} "
                   f"| {pair(f, first)} ")
            if paced:
                missed = who in AGAINST and f.get("added_p99") and f["added_p99"] >= 2
                row += (f"| {pair(f, 'direct')} | {pair(f, 'added')}"
                        f"{' **missed**' if missed else ''} ")
                if missed:
                    behind.append(f"{who} at {concurrency}: {f['added_p99']:.2f} ms added to the first token's p99")
            rows.append(row + f"| {f['service_us']:.2f} | {f['errors']} |")
        for ours, others in AGAINST.items():
            for other in others:
                mine, theirs = medians.get((load, concurrency, ours)), medians.get((load, concurrency, other))
                if not mine or not theirs:
                    continue
                cpu, rate = mine["gateway_us"] / theirs["gateway_us"], mine["per_second"] / theirs["per_second"]
                # Of paced load, it is the load that sets the rate of both.
                misses = [name for name, missed in {"gateway CPU": cpu > 1, "tokens/s": not paced and rate < 1}.items() if missed]
                if misses:
                    behind.append(f"{load}: {ours} against {other} at {concurrency}: {', '.join(misses)}")
                compared.append(f"| {ours} / {other} | {concurrency} | {rate:.2f} | {cpu:.2f} "
                                f"| {'yes' if not misses else '**no**: ' + ', '.join(misses)} |")
    return rows, ["| | streams | tokens/s | gateway CPU | ahead per core |", "|---|---:|---:|---:|---|", *compared], behind
