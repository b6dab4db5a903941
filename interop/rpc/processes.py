"""Programs that the suite starts, and the lines that they write."""

import json
import subprocess
import threading
import time

# What happens at all happens within this, in seconds, also where several suites share a core.
PATIENCE = 15


class Lines:
    """What a program writes, with the time at which each line came."""

    def __init__(self, pipe):
        self.lines, self.news, self.over = [], threading.Condition(), False
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe):
        for line in pipe:
            with self.news:
                self.lines.append((time.monotonic(), line.rstrip("\n")))
                self.news.notify_all()
        with self.news:
            self.over = True
            self.news.notify_all()

    def find(self, wanted, count=1):
        """Waits for as many lines for which `wanted` returns something, and returns them as (time, what it returned)."""
        def found():
            hits = [(when, hit) for when, line in self.lines if (hit := wanted(line)) is not None]
            return hits if len(hits) >= count or self.over else None

        with self.news:
            hits = self.news.wait_for(found, PATIENCE)
            said = "\n".join(line for _, line in self.lines[-20:])
        assert hits and len(hits) >= count, f"it was not written; the last lines are\n{said}"
        return hits


class Program:
    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out, self.err = Lines(self.process.stdout), Lines(self.process.stderr)

    def logged(self, count=1, **fields):
        """Waits for lines of JSON with these fields; a field that is a set may have any of its values."""
        def wanted(line):
            said = json.loads(line)
            fits = all(said.get(name) in value if isinstance(value, set) else name in said and said[name] == value
                       for name, value in fields.items())
            return said if fits else None

        return self.out.find(wanted, count)

    def end_of(self, request_id):
        """The line in which the end of a generation or of a request is logged, and when it came."""
        def wanted(line):
            said = json.loads(line)
            return said if said.get("request_id") == request_id and "cause" in said else None

        return self.out.find(wanted)[0]

    def kill(self):
        self.process.kill()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()


def after(word):
    """What follows a word on a line."""
    return lambda line: line.split(word, 1)[1].split()[0] if word in line else None
