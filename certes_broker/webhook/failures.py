"""Which failure each of libcurl's error codes is.

The question behind the table is whose fault it was: `OURS` is never charged to the receiver, so a code stands there only if no receiver
can bring it about. What the table does not name is `BROKEN`: libcurl had the receiver on the line and could not go on.
"""

from __future__ import annotations

import errno

import pycurl

from certes_broker.ports.sender import SendFailure

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN})
"""Operating system errors that say this machine has run out of something: file handles, memory, local ports, its network."""

_FAILURES: dict[int, SendFailure] = {
    pycurl.E_URL_MALFORMAT: SendFailure.ADDRESS_REFUSED,
    pycurl.E_LOGIN_DENIED: SendFailure.ADDRESS_REFUSED,
    pycurl.E_COULDNT_RESOLVE_HOST: SendFailure.RESOLVE,
    pycurl.E_COULDNT_CONNECT: SendFailure.CONNECT,
    pycurl.E_OPERATION_TIMEDOUT: SendFailure.TIMEOUT,
    pycurl.E_SSL_CONNECT_ERROR: SendFailure.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: SendFailure.TLS,
    pycurl.E_SSL_CIPHER: SendFailure.TLS,
    pycurl.E_SSL_ISSUER_ERROR: SendFailure.TLS,
    pycurl.E_SSL_INVALIDCERTSTATUS: SendFailure.TLS,
    pycurl.E_USE_SSL_FAILED: SendFailure.TLS,
    pycurl.E_FAILED_INIT: SendFailure.OURS,
    pycurl.E_NOT_BUILT_IN: SendFailure.OURS,
    pycurl.E_OUT_OF_MEMORY: SendFailure.OURS,
    pycurl.E_BAD_FUNCTION_ARGUMENT: SendFailure.OURS,
    pycurl.E_UNKNOWN_OPTION: SendFailure.OURS,
    pycurl.E_ABORTED_BY_CALLBACK: SendFailure.OURS,
    pycurl.E_NO_CONNECTION_AVAILABLE: SendFailure.OURS,
    pycurl.E_INTERFACE_FAILED: SendFailure.OURS,
    pycurl.E_SSL_CACERT_BADFILE: SendFailure.OURS,
    pycurl.E_SSL_CERTPROBLEM: SendFailure.OURS,
    pycurl.E_SSL_ENGINE_INITFAILED: SendFailure.OURS,
    pycurl.E_SSL_ENGINE_NOTFOUND: SendFailure.OURS,
    pycurl.E_SSL_ENGINE_SETFAILED: SendFailure.OURS,
}


def failure_of(code: int, os_error: int) -> SendFailure:
    """Names the failure behind libcurl's `code`; `os_error` is the operating system's error number, 0 where it had none."""
    failure = _FAILURES.get(code, SendFailure.BROKEN)
    if failure is SendFailure.CONNECT and os_error in EXHAUSTED:
        return SendFailure.OURS
    return failure
