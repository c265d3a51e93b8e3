"""The doors: gRPC and HTTP, and what stands behind both."""

import os

# What gRPC has to do at a fork it does in every process that uvloop starts, and that ends some before they have begun. Nobody
# needs it here: whatever the broker starts is another program. Both are read when `grpc` is first imported, which is below.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# The core writes lines of its own to standard error, past the log: what is sent to it, whoever sends it, and as often as they like.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
