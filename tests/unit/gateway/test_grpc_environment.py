"""What gRPC reads from the environment when it is first imported, and never again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import json, os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(json.dumps([os.environ.get("GRPC_ENABLE_FORK_SUPPORT"), os.environ.get("GRPC_VERBOSITY")]))

sys.meta_path.insert(0, Watch())
import certes_broker.app
"""


def test_grpc_is_told_to_leave_forks_alone_before_anything_imports_it() -> None:
    """Whatever is imported first: it was set in vain while another module imported `grpc` before the one that set it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    program = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(program, env=environ, capture_output=True, text=True, check=True).stdout
    assert [json.loads(line) for line in told.splitlines()] == [["0", "NONE"]]
