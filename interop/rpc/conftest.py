import itertools
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
SERVICE = HERE.parents[1] / "examples/python-service"
sys.path[:0] = [str(HERE), str(SERVICE)]

from lingering import Lingering  # noqa: E402
from processes import Program, after  # noqa: E402

FLUMEN = os.environ.get("INTEROP_FLUMEN", str(HERE.parents[1] / "target/debug/flumen"))
MEASURED = []

# The services behind the gateway: one that is as fast as it can, one that is slow, one that will be killed, and one that takes
# its time to end a call.
CONFIG = """
[log]
access = "json"

[upstreams.fast]
kind = "grpc"
endpoints = "http://FAST"
health_check = true
[upstreams.slow]
kind = "grpc"
endpoints = "http://SLOW"
health_check = true
[upstreams.mortal]
kind = "grpc"
endpoints = "http://MORTAL"
[upstreams.lingering]
kind = "grpc"
endpoints = "http://LINGERING"
[upstreams.short]
kind = "grpc"
endpoints = "http://FAST"
total = "400ms"
[upstreams.spelt]
kind = "grpc"
endpoints = "http://FAST"
request = "messages"
[upstreams.silent]
kind = "grpc"
endpoints = "http://FAST"
pause = false
[upstreams.sim]
kind = "sim"
first_token = "5ms"

[models."ngram*"]
upstream = "fast"
[models.nobody]
upstream = "fast"
[models.slow]
upstream = "slow"
name = "ngram-endless"
[models.mortal]
upstream = "mortal"
name = "ngram-endless"
[models.lingering]
upstream = "lingering"
[models.short]
upstream = "short"
name = "ngram-endless"
[models.spelt]
upstream = "spelt"
name = "ngram"
[models.silent]
upstream = "silent"
name = "ngram-endless"
[models."sim*"]
upstream = "sim"
"""

LOCKED = """
[log]
access = "json"
[auth]
keys_file = "keys.toml"
[upstreams.sim]
kind = "sim"
[models.sim]
upstream = "sim"
"""


class Gateway(Program):
    def __init__(self, folder, config):
        file = folder / "flumen.toml"
        file.write_text(config)
        super().__init__(FLUMEN, "serve", "--config", str(file), "--listen", "127.0.0.1:0")
        self.url = self.err.find(after("listening on "))[0][1]
        self.address = self.url.removeprefix("http://")


class Service(Program):
    def __init__(self, *options):
        super().__init__(sys.executable, str(SERVICE / "service.py"), "--port", "0", "--trace", "--grace", "0", *options)

    @property
    def address(self):
        return self.logged()[0][1]["listening"]


@pytest.fixture(scope="session")
def services():
    programs = {
        "fast": Service("--tokens-per-second", "0"),
        "slow": Service("--tokens-per-second", "1"),
        "mortal": Service("--tokens-per-second", "50", "--concurrency", "1"),
        "lingering": Lingering(),
    }
    yield programs
    for program in programs.values():
        program.stop()


@pytest.fixture
def fast(services):
    return services["fast"]


@pytest.fixture(scope="session")
def gateway(services, tmp_path_factory):
    config = CONFIG
    for name, program in services.items():
        config = config.replace(name.upper(), program.address)
    program = Gateway(tmp_path_factory.mktemp("gateway"), config)
    yield program
    program.stop()


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locked")
    command = [FLUMEN, "key", "new", "--id", "acme", "--tenant", "acme"]
    key, entry = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n", 1)
    (folder / "keys.toml").write_text(entry)
    program = Gateway(folder, LOCKED)
    program.key = key
    yield program
    program.stop()


@pytest.fixture
def request_id(request, counter=itertools.count()):
    """A name for the request of a test, by which the logs are searched."""
    return f"{request.node.name.split('[')[0][:80]}-{next(counter)}"


@pytest.fixture
def measured():
    return MEASURED.append


def pytest_terminal_summary(terminalreporter):
    for line in MEASURED:
        terminalreporter.write_line(f"measured: {line}")
