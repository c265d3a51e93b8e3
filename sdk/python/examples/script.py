"""Publishes a push for everyone from a script without an event loop.

CERTES_APP=example-script python script.py events://127.0.0.1:9600 refs/heads/main
"""

import sys

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes_sdk import blocking as certes

certes.init(sys.argv[1])
receipt = certes.publish(PushEvent(ref=sys.argv[2]), everyone=True, id=f"script-{sys.argv[2]}")
print("was there already" if receipt.duplicate else "stored")
certes.close()
