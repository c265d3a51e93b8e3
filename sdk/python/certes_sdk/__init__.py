"""Certes for Python: subscribe to asynchronous web events, handle them, publish them."""
