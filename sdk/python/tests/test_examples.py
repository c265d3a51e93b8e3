"""The examples, and the README, run against the real broker."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from scripts.broker_process import BrokerProcess
from scripts.ports import HeldPorts

SDK = Path(__file__).resolve().parents[1]
EXAMPLES = SDK / "examples"
WAIT = 40.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker") / "data") as broker:
        yield broker.start()


class Program:
    """A program whose output is waited for, line by line."""

    def __init__(self, *command: str, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=EXAMPLES,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = ""

    def until(self, text: str) -> None:
        """Returns when it has said something."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + WAIT
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while text not in self.output:
                assert selector.select(max(0.0, deadline - time.monotonic())), self.output
                piece = os.read(self._process.stdout.fileno(), 4096)
                assert piece, self.output
                self.output += piece.decode()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop, and returns its exit code."""
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=WAIT)
        self.output += rest.decode()
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def run(*command: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLES,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_consumer_handles_what_the_producer_publishes_and_stops_when_asked_to(broker, number):
    uri = f"events://{broker.http}"
    with Program("consumer.py", uri, CERTES_APP=f"consumer-{number}") as consumer:
        consumer.until("subscribed")
        stored = run("producer.py", uri, f"refs/heads/{number.name}", CERTES_APP="producer")
        assert stored.endswith(f"and push-refs/heads/{number.name}\n")
        consumer.until(f"push to refs/heads/{number.name}\n")
        assert consumer.stop(number) == 0
    assert "Traceback" not in consumer.output


def test_the_script_publishes_and_is_told_of_a_duplicate(broker):
    uri = f"events://{broker.http}"
    assert run("script.py", uri, "a", CERTES_APP="script") == "stored\n"
    assert run("script.py", uri, "a", CERTES_APP="script") == "was there already\n"


@pytest.mark.parametrize(
    "command",
    [("uvicorn", "asgi_app:app", "--port", "{port}"), ("flask", "--app", "flask_app", "run", "--port", "{port}")],
    ids=lambda command: command[0],
)
def test_an_application_takes_webhooks(broker, command):
    uri, held = f"events://{broker.http}", HeldPorts(1)
    [port] = held.numbers
    environ = {
        "CERTES_GATEWAY": uri,
        "CERTES_APP": f"web-{command[0]}",
        "CERTES_CALLBACK_URL": f"http://127.0.0.1:{port}/hook",
    }
    with Program("-m", *[part.format(port=port) for part in command], **environ) as application:
        application.until(f"running on http://127.0.0.1:{port}" if command[0] == "uvicorn" else "Running on")
        run("script.py", uri, f"refs/heads/{command[0]}", CERTES_APP="script")
        application.until(f"push to refs/heads/{command[0]}\n")


def test_the_first_programs_of_the_readme_run_as_they_stand(broker, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (SDK / "README.md").read_text(), re.DOTALL)
    consumer, producer = (block.replace("127.0.0.1:9600", broker.http) for block in blocks[:2])
    (tmp_path / "consumer.py").write_text(consumer)
    (tmp_path / "producer.py").write_text(producer)
    with Program("-u", str(tmp_path / "consumer.py")) as running:
        running.until("waiting")
        run(str(tmp_path / "producer.py"))
        running.until("octo pushed to refs/heads/main")
        assert running.stop() == 0
