"""Load for a chain, on one thread: so many streams at a time, each on a connection of its own that asks for one after the other;
and probes, which ask for one token, by turns through the chain and of the service itself.

    python3 load.py '{"address": …, "kind": …, "streams": …, …}'    prints a line of JSON
"""

import json
import os
import random
import select
import socket
import sys
import time
from pathlib import Path

from wire import asked

now = time.perf_counter
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Connection:
    def __init__(self, address, protocol):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = protocol
        self.sent = None
        self.tokens = 0
        if hello := protocol.hello():
            self.socket.send(hello)

    def ask(self):
        self.tokens = 0
        self.sent = now()
        self.socket.send(self.protocol.ask())


class Window:
    """What is counted, while it is open."""

    def __init__(self):
        self.open = False
        self.tokens = self.streams = 0
        self.first = []
        self.errors = {}

    def failed(self, why):
        why = str(why)[:300]
        self.errors[why] = self.errors.get(why, 0) + 1


class Load:
    def __init__(self, spec):
        self.spec = spec
        self.poll = select.epoll()
        self.connections = {}
        self.window = Window()
        # The same one in every run.
        self.chance = random.Random(1)
        # By the name of whom they ask: those that wait for their turn, and times to the first token.
        self.idle = {"chain": [], "direct": []}
        self.probed = {"chain": [], "direct": []}

    def connect(self, address, kind, count, interval_us, probe=None):
        connection = Connection(address, asked(kind, count, self.spec["size"], interval_us))
        connection.expected, connection.probe = count, probe
        self.poll.register(connection.socket, select.EPOLLIN)
        self.connections[connection.socket.fileno()] = connection
        return connection

    def stream(self):
        spec = self.spec
        return self.connect(spec["address"], spec["kind"], spec["count"], spec["interval_us"])

    def probe(self, whom):
        if self.idle[whom]:
            connection = self.idle[whom].pop()
        elif whom == "chain":
            connection = self.connect(self.spec["address"], self.spec["kind"], 1, 0, whom)
        else:
            connection = self.connect(self.spec["service"], self.spec["direct"], 1, 0, whom)
        connection.ask()

    def step(self, timeout):
        window = self.window
        for number, _ in self.poll.poll(timeout):
            connection = self.connections[number]
            try:
                data = connection.socket.recv(1 << 18)
                if not data:
                    raise ConnectionError("the connection was closed")
                tokens, ended, reply = connection.protocol.take(data)
                if reply:
                    connection.socket.send(reply)
                if tokens:
                    if not connection.tokens and connection.sent and window.open:
                        first = self.probed[connection.probe] if connection.probe else window.first
                        first.append(now() - connection.sent)
                    connection.tokens += tokens
                    if window.open:
                        window.tokens += tokens
                if ended:
                    self.ended(connection)
            except (OSError, ValueError) as error:
                window.failed(error)
                self.drop(number)

    def ended(self, connection):
        if connection.tokens != connection.expected and self.window.open:
            self.window.failed(f"{connection.tokens} tokens instead of {connection.expected}")
        if connection.probe:
            self.idle[connection.probe].append(connection)
            return
        if self.window.open:
            self.window.streams += 1
        connection.ask()

    def drop(self, number):
        connection = self.connections.pop(number)
        self.poll.unregister(number)
        connection.socket.close()

    def until(self, end, probes):
        """Serves what comes; every so often it starts a probe. Returns the probe's next time."""
        spec, turn, due = self.spec, 0, now()
        while (at := now()) < end:
            if probes and at >= due:
                self.probe(["chain", "direct"][turn % 2])
                turn, due = turn + 1, max(due + spec["probe_every"] * self.chance.uniform(0.5, 1.5), at)
            self.step(max(0.0, min(end, due if probes else end) - now()))

    def run(self):
        spec, started = self.spec, now()
        # At even distances, which divide into the interval between tokens, all streams would have theirs at the same moments.
        for begin in sorted(self.chance.uniform(0, spec["ramp"]) for _ in range(spec["streams"])):
            self.until(started + begin, False)
            self.stream().ask()
        probes = bool(spec.get("probe_every"))
        self.until(started + spec["ramp"] + spec["settle"], probes)
        pids = spec["pids"]
        self.window.open, since, cpu = True, now(), {name: cpu_seconds(pid) for name, pid in pids.items()}
        self.until(since + spec["seconds"], probes)
        took = now() - since
        cpu = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
        window, self.window.open = self.window, False
        quantile = lambda values, q: sorted(values)[min(len(values) - 1, int(q * len(values)))] * 1e3 if values else None
        both = lambda values: {"count": len(values), "p50": quantile(values, 0.5), "p99": quantile(values, 0.99)}
        return {
            "seconds": took, "tokens": window.tokens, "streams": window.streams, "errors": window.errors, "cpu_seconds": cpu,
            "first_ms": both(window.first), "probe_ms": {whom: both(values) for whom, values in self.probed.items()},
        }


if __name__ == "__main__":
    print(json.dumps(Load(json.loads(sys.argv[1])).run()), flush=True)
