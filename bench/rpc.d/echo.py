"""Bidirectional echo: each framework's own client against its own server."""

import statistics
import time

from processes import ECHO, LOAD_CORE, PEERS, SERVER_CORE, cpu_seconds, serving, sockets, spoken, start

SIZE = 1024
WARM_UP = 1.0
# By contract: who plays, and how it is told to. The first is ours, the second the one that it is measured against.
KINDS = {
    "gRPC": {"Flumen": "grpc", "Kitex": "kitex-grpc", "grpc-go": "grpc-go"},
    "Thrift over gRPC": {"Flumen": "thrift-grpc", "Kitex": "kitex-thrift-grpc"},
    "TTHeader Streaming": {"Flumen": "ttheader", "Kitex, mux": "kitex-ttheader mux", "Kitex, long": "kitex-ttheader long"},
}


def server(who, kind):
    if who == "Flumen":
        return [ECHO, "serve", "127.0.0.1:0"]
    return [PEERS, "serve", "--kind", kind.split()[0]]


def client(who, kind, address, concurrency, seconds):
    if who == "Flumen":
        return [ECHO, "load", kind, address, concurrency, seconds, SIZE]
    kind, *pool = kind.split()
    return [PEERS, "load", "--kind", kind, "--address", address, "--concurrency", concurrency, "--seconds", seconds, "--size", SIZE,
            *(["--pool", *pool] if pool else [])]


def once(who, kind, concurrency, seconds):
    with serving(SERVER_CORE, server(who, kind)) as (process, address):
        before = sockets(process.pid)
        load, began = start(LOAD_CORE, client(who, kind, address, concurrency, seconds)), time.monotonic()
        # The server is watched within the time that the client counts.
        time.sleep(WARM_UP + 0.1 * seconds)
        since, cpu, open_now = time.monotonic(), cpu_seconds(process.pid), sockets(process.pid) - before
        time.sleep(max(0.0, began + WARM_UP + 0.9 * seconds - time.monotonic()))
        rate = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - since)
        report, errors = spoken(load, seconds + 30)
    if not report or not report["messages"]:
        print(f"{who} {kind} at {concurrency}: no report: {report} {errors[:300]}", flush=True)
        return None
    # Little's law: what a client says of its times must fit what it says of its rate.
    mean_us = concurrency / report["per_second"] * 1e6
    if report["p50_us"] > 2.1 * mean_us or report["p99_us"] < 0.5 * mean_us:
        print(f"{who} {kind} at {concurrency}: its times cannot be right: {report}", flush=True)
    return {
        "per_second": report["per_second"], "p50_ms": report["p50_us"] / 1e3, "p99_ms": report["p99_us"] / 1e3,
        "server_us": rate / report["per_second"] * 1e6, "client_us": report["cpu_seconds"] / report["messages"] * 1e6,
        "connections": open_now, "errors": report["errors"],
    }


def measure(quiet, rounds, seconds, concurrencies, wanted):
    """Medians over the rounds: by contract, concurrency and who."""
    runs = {}
    turns = [(contract, who) for contract in KINDS for who in KINDS[contract] if not wanted or contract in wanted]
    for at in range(rounds):
        for concurrency in concurrencies:
            shift = at % len(turns)
            for contract, who in turns[shift:] + turns[:shift]:
                kind = KINDS[contract][who]
                found = quiet.measure(lambda: once(who, kind, concurrency, seconds))
                if found:
                    runs.setdefault((contract, concurrency, who), []).append(found)
    return {key: {name: statistics.median(run[name] for run in found) if name != "errors" else sum(run[name] for run in found)
                  for name in found[0]} for key, found in runs.items()}


def ratio(ours, theirs):
    return ours / theirs if theirs else float("nan")


def table(medians):
    """Rows of Markdown, and those of ours that are not ahead."""
    rows = ["| | streams | messages/s | p50 / p99, ms | server CPU, µs/message | client CPU, µs/message | connections | errors |",
            "|---|---:|---:|---:|---:|---:|---:|---:|"]
    behind, compared = [], ["| Flumen against | streams | messages/s | p99 | server CPU | client CPU | ahead per core |",
                            "|---|---:|---:|---:|---:|---:|---|"]
    for contract, players in KINDS.items():
        for concurrency in sorted({key[1] for key in medians if key[0] == contract}):
            ours = medians.get((contract, concurrency, "Flumen"))
            for who in players:
                found = medians.get((contract, concurrency, who))
                if not found:
                    rows.append(f"| {contract}: {who} | {concurrency} | no result | | | | | |")
                    continue
                rows.append(f"| {contract}: {who} | {concurrency} | {found['per_second']:,.0f} | {found['p50_ms']:.2f} / {found['p99_ms']:.2f} "
                            f"| {found['server_us']:.2f} | {found['client_us']:.2f} | {found['connections']:.0f} | {found['errors']} |")
                if who == "Flumen" or not ours:
                    continue
                rate, late, serving_, asking = (ratio(ours[name], found[name]) for name in ("per_second", "p99_ms", "server_us", "client_us"))
                misses = [name for name, missed in {"messages/s": rate < 1, "server": serving_ > 1, "client": asking > 1}.items() if missed]
                compared.append(f"| {contract}: {who} | {concurrency} | {rate:.2f} | {late:.2f} | {serving_:.2f} | {asking:.2f} "
                                f"| {'yes' if not misses else '**no**: ' + ', '.join(misses)} |")
                if misses:
                    behind.append(f"{contract} against {who} at {concurrency}: {', '.join(misses)}")
    return rows, compared, behind
