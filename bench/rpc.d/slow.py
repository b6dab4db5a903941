"""Readers that take 1 KiB a second of an endless generation of 1 KiB tokens, and the memory of gateway and service meanwhile.

    python3 slow.py '{"address": …, "kind": …, "readers": …, "seconds": …}'    is the readers
"""

import json
import socket
import sys
import time

from wire import ENDLESS, asked

SIZE = 1024
EVERY = 0.5
CAP_MIB = 3 * 1024
# Who, in the plot.
CHAINS = ["Flumen, gRPC", "Flumen, TTHeader", "Hertz + Kitex, gRPC", "Hertz + Kitex, TTHeader mux"]


def read_slowly(spec):
    host, port = spec["address"].rsplit(":", 1)
    readers = []
    for _ in range(spec["readers"]):
        connection = socket.socket()
        # So that the kernel holds little for the reader (it doubles the number).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect((host, int(port)))
        protocol = asked(spec["kind"], ENDLESS, SIZE, 0)
        connection.send(protocol.ask())
        readers.append(connection)
    got, ended, began = 0, 0, time.monotonic()
    for second in range(spec["seconds"]):
        for reader in list(readers):
            reader.setblocking(False)
            try:
                data = reader.recv(1024)
                got += len(data)
                if not data:
                    ended += 1
                    readers.remove(reader)
            except BlockingIOError:
                pass
            except OSError:
                ended += 1
                readers.remove(reader)
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))
    print(json.dumps({"bytes": got, "ended": ended}))


def once(who, readers, seconds):
    """What gateway and service hold, in MiB, every half second; and whether they had to be stopped."""
    from chain import CHAINS as ALL, chain
    from processes import HERE, LOAD_CORE, cpu_seconds, resident_mib, spoken, start, stop

    with chain(who) as (address, _, gateway, behind):
        spec = {"address": address, "kind": ALL[who][1], "readers": readers, "seconds": seconds}
        watched = {"gateway": gateway.pid, "service": behind.pid}
        points = {name: [(0.0, resident_mib(pid))] for name, pid in watched.items()}
        before = {name: cpu_seconds(pid) for name, pid in watched.items()}
        began, due, capped = time.monotonic(), EVERY, False
        reading = start(LOAD_CORE, [sys.executable, HERE / "slow.py", json.dumps(spec)])
        while due <= seconds and not capped:
            time.sleep(max(0.0, min(began + due - time.monotonic(), 0.05)))
            sizes = {name: resident_mib(pid) for name, pid in watched.items()}
            capped = max(sizes.values()) > CAP_MIB
            if (at := time.monotonic() - began) >= due or capped:
                due += EVERY
                for name, size in sizes.items():
                    points[name].append((at, size))
        took = time.monotonic() - began
        cpu = {name: (cpu_seconds(pid) - before[name]) / took for name, pid in watched.items()}
        if capped:
            stop(reading)
        report, _ = spoken(reading, seconds + 30) if not capped else (None, None)
        if capped:
            reading.communicate()
    return {"points": points, "capped": took if capped else None, "readers": report, "cpu": cpu}


def measure(quiet, seconds, counts):
    return {(who, count): quiet.measure(lambda: once(who, count, seconds)) for count in counts for who in CHAINS}


def table(found):
    rows = ["| | readers | gateway at the start / most, MiB | service at the start / most, MiB | gateway / service CPU, of a core "
            "| read, KiB each | |", "|---|---:|---:|---:|---:|---:|---|"]
    for (who, count), run in found.items():
        ends = {name: (points[0][1], max(size for _, size in points)) for name, points in run["points"].items()}
        read = run["readers"]
        note = (f"stopped after {run['capped']:.1f} s" if run["capped"] else
                f"{read['ended']} cut off" if read and read["ended"] else "")
        rows.append(f"| {who} | {count} | {ends['gateway'][0]:.1f} / {ends['gateway'][1]:,.1f} | {ends['service'][0]:.1f} / "
                    f"{ends['service'][1]:,.1f} | {run['cpu']['gateway']:.0%} / {run['cpu']['service']:.0%} "
                    f"| {read['bytes'] / 1024 / count if read else float('nan'):.1f} | {note} |".replace("nan", "-"))
    return rows


if __name__ == "__main__":
    read_slowly(json.loads(sys.argv[1]))
