"""The program of the child process that compiles and links what strangers send. It is run by its path.

Its argument is the path of a JSON file: `path` is where Python finds modules, `limits` what the process may use, `seconds`
how long it may live if nobody is left to end it, and `arguments` those of the compiler. Then it links `linked`, a file that
holds a `FileDescriptorSet`, as the broker will. What is wrong with the files is said on standard error, as
`path:line:column: text` or `path: text`. All names are relative to the folder that it is started in, whose own path is
therefore in no message.

It exits with 0 if all is well, `NOT_COMPILED` or `NOT_LINKED` if the files are at fault, anything else if it is itself.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

NOT_COMPILED: Final = 65
NOT_LINKED: Final = 66


def main() -> int:
    """Does what the file says and returns the exit status."""
    order: dict[str, Any] = json.loads(Path(sys.argv[1]).read_bytes())
    for name, maximum in order["limits"].items():
        # Not every system knows every limit, and a lower one may be in force already.
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (maximum, maximum))
    signal.alarm(order["seconds"])
    sys.path[:] = order["path"]
    from grpc_tools import _protoc_compiler  # noqa: PLC0415 (found only now)

    arguments = ["protoc", *order["arguments"]]
    if _protoc_compiler.run_main([argument.encode() for argument in arguments]) != 0:
        return NOT_COMPILED
    return _link(Path(order["linked"]).read_bytes())


def _link(wire: bytes) -> int:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415 (found only now)
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415 (the same)

    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(wire).file:
        try:
            pool.AddSerializedFile(file.SerializeToString())
        except TypeError as error:
            sys.stderr.buffer.write(f"{file.name}: {error}\n".encode(errors="replace"))
            return NOT_LINKED
    return 0


if __name__ == "__main__":
    sys.exit(main())
