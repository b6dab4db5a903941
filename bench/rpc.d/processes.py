"""Starts what is measured, pinned to a core, and tells what it uses and whether the machine is quiet."""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Copies, which stay the same when somebody builds during a run.
COPIES = ROOT / "target/rpc-bench"
BUILT = [ROOT / path for path in ("target/release/flumen", "target/release/examples/echo", "target/release/examples/generate",
                                  "target/peers/peers")]
FLUMEN, ECHO, GENERATE, PEERS = (COPIES / path.name for path in BUILT)
SERVER_CORE, LOAD_CORE = 0, 1
# Before whatever is started, see `real_time`.
ahead = []
TICK = os.sysconf("SC_CLK_TCK")
COMPILERS = {"cargo", "rustc", "go", "compile", "cc1", "ld", "lld", "rust-lld"}


def pinned(core, command):
    return dict(args=[*ahead, "taskset", "-c", str(core), *map(str, command)], env={**os.environ, "GOMAXPROCS": "1"}, cwd=HERE)


@contextmanager
def real_time(wanted):
    """What is started within goes before everybody else on its core, where that is allowed: a few milliseconds that others take from
    a core which is half busy are a queue of hundreds of tokens, and the slowest of a hundred probes finds it. Yields whether it is so."""
    global ahead
    real = ["chrt", "--fifo", "1"]
    if wanted and shutil.which("chrt") and subprocess.run([*real, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        ahead = real
    try:
        yield bool(ahead)
    finally:
        ahead = []


def stop(process):
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving_on(port, core, command):
    """Yields the process, once it listens there."""
    process = subprocess.Popen(**pinned(core, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                sys.exit(f"{command} ended at once")
            time.sleep(0.05)
        yield process
    finally:
        stop(process)


@contextmanager
def serving(core, command):
    """Yields the process and the address that it tells on its first line."""
    process = subprocess.Popen(**pinned(core, command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        ready, _, _ = select.select([process.stdout], [], [], 10)
        line = process.stdout.readline() if ready else ""
        if not line:
            sys.exit(f"{command} does not say where it listens")
        yield process, json.loads(line)["listening"]
    finally:
        stop(process)


def spoken(process, timeout):
    """The last line of JSON that it prints."""
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        stop(process)
        return None, "it did not end"
    lines = [line for line in out.splitlines() if line.startswith("{")]
    return (json.loads(lines[-1]) if lines else None), errors


def start(core, command):
    return subprocess.Popen(**pinned(core, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def sockets(pid):
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except OSError:
            pass
    return count


def compilers():
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add((entry / "comm").read_text().strip())
            except OSError:
                pass
    return found & COMPILERS


class Quiet:
    """Measures when nobody compiles, and again when others used more than a tenth of a core meanwhile."""

    def __init__(self, patience, again=2):
        # How long to wait in all.
        self.left, self.again = patience, again
        self.measured = self.disturbed = 0
        self.most = 0.0

    def wait(self):
        calm = 0
        while self.left > 0 and calm < 3:
            calm = 0 if compilers() else calm + 1
            time.sleep(0.3)
            if not calm:
                self.left -= 0.3

    def measure(self, once):
        """`once` starts processes, and has waited for all of them when it returns."""
        for more in reversed(range(self.again + 1)):
            self.wait()
            since, before = time.monotonic(), foreign_seconds()
            result = once()
            share = (foreign_seconds() - before) / (time.monotonic() - since)
            noisy = share > 0.10 or compilers()
            if not noisy or not more or self.left <= 0:
                break
        self.measured += 1
        self.disturbed += bool(noisy)
        self.most = max(self.most, share)
        return result

    def __str__(self):
        return (f"{self.disturbed} of {self.measured} measurements disturbed (somebody compiled, or used more than 10 % of a "
                f"core; at most {self.most:.0%})")


def foreign_seconds():
    """CPU time of all but this process and the ended children of it."""
    user, nice, system, _, _, interrupts, soft, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + interrupts + soft + steal) / TICK - sum(os.times()[:4])
