import json
import os
import subprocess

import pytest

APOGEE = os.environ.get("APOGEE_BIN", "apogee")


class Node:
    """A running broker. RocketMQ clients connect to the name server at `namesrv`, host:port."""

    def __init__(self, namesrv):
        self.namesrv = namesrv

    def apogee(self, *args):
        """Runs a command against this broker and returns the JSON values that it prints."""
        ran = subprocess.run(
            [APOGEE, *args, "--namesrv", self.namesrv, "--json"], stdout=subprocess.PIPE, text=True, check=True, timeout=30
        )
        return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture(scope="session")
def node():
    with subprocess.Popen(
        [APOGEE, "start", "--in-memory", "--json", "--log-level", "warn"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()  # the only one, once it is ready
            if not line:
                pytest.exit(f"{APOGEE} did not start; what it said stands above", returncode=1)
            yield Node(json.loads(line)["namesrv"])
        finally:
            process.terminate()
