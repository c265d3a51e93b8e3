"""Takes webhooks in a Flask application.

CERTES_APP=example CERTES_CALLBACK_URL=http://127.0.0.1:5000/hook CERTES_GATEWAY=events://127.0.0.1:9600 \
        flask --app flask_app run
"""

import os

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes_sdk import blocking as certes

certes.init(os.environ["CERTES_GATEWAY"])


@certes.on("community.certes.dev/github/1/push")
def push(raw: certes.RawEvent) -> None:
    """Reads the typed event."""
    print(f"push to {raw.to(PushEvent).ref}", flush=True)


certes.ensure_subscriptions(certes.event("community.certes.dev/github/1/push"))

app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/hook": certes.wsgi_handler()})  # type: ignore[method-assign]
