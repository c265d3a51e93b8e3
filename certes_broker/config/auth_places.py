"""How callers prove who they are, read out of the settings and the files that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from certes_broker.config.auth_kinds import check_key
from certes_broker.config.problems import Problem
from certes_broker.config.quantities import Unfit
from certes_broker.config.settings import Auth, Config
from certes_broker.domain.access import ALL_ROLES
from certes_broker.domain.api_keys import ApiKey, digest_of, read_key
from certes_broker.domain.errors import Invalid, Reason


def operator_key(auth: Auth) -> ApiKey | None:
    """Returns what is known of the operator's key; None if there is none. Raises `Invalid` (SETTINGS_INVALID)."""
    text = auth.operator_key.text
    if auth.operator_key_file is not None:
        try:
            text = check_key(auth.operator_key_file.read_text(encoding="ascii").strip())
        except (Unfit, UnicodeDecodeError):
            raise _unusable(
                auth, "holds no key of the form certes_{id}_{secret}; `certes keys generate` prints one"
            ) from None
        except OSError as error:
            raise _unusable(auth, f"cannot be read: {error.strerror}") from None
    key_id = read_key(text)
    return None if key_id is None else ApiKey(key_id, digest_of(text), ALL_ROLES)


def auth_contradictions(config: Config, origins: Mapping[tuple[str, ...], str]) -> Iterator[Problem]:
    """Finds what is wrong with values that are fine each by itself."""
    auth = config.auth

    def problem(key: str, what: str) -> Problem:
        return Problem(origins["auth", key], f"auth.{key}", what)

    if auth.operator_key.text and auth.operator_key_file is not None:
        yield problem("operator_key_file", "and auth.operator_key are both set: the operator has one key")
    if auth.jwt_keys is not None and auth.jwt_keys_url:
        yield problem("jwt_keys_url", "and auth.jwt_keys are both set: keys come from one place")
    if auth.jwt_issuer and not auth.jwt_audience:
        yield problem(
            "jwt_issuer", "is of no use without auth.jwt_audience: a token made for another service would be taken"
        )
    if auth.jwt_issuer and auth.jwt_keys is None and not auth.jwt_keys_url:
        yield problem(
            "jwt_issuer", "is of no use without auth.jwt_keys or auth.jwt_keys_url: nothing could be verified"
        )
    if auth.certificates and config.tls.client_ca is None:
        yield problem("certificates", "is of no use without tls.client_ca: no client is asked for a certificate")
    if auth.client_crl is not None and not auth.certificates:
        yield problem("client_crl", "is of no use without [[auth.certificates]]: no certificate is a credential")
    for key in ("jwt_audience", "jwt_keys", "jwt_keys_url"):
        if getattr(auth, key) and not auth.jwt_issuer:
            yield problem(key, "is of no use without auth.jwt_issuer: no tokens are taken")


def exposure(config: Config, origins: Mapping[tuple[str, ...], str]) -> Iterator[Problem]:
    """Finds listeners that other machines can reach and that are not protected."""
    for section, listen in (("http", config.http.listen), ("grpc", config.grpc.listen)):
        needed = {
            "authentication (auth.operator_key, auth.jwt_issuer or [[auth.certificates]])": config.auth.is_configured,
            "TLS (tls.certificate)": config.tls.certificate,
        }
        lacking = [what for what, there in needed.items() if not there]
        if lacking and not listen.is_loopback and not config.allow_insecure:
            yield Problem(
                origins[section, "listen"],
                f"{section}.listen",
                f"is {listen}, which other machines can reach, and this broker has no {' and no '.join(lacking)}. Listen on "
                "127.0.0.1, [::1] or localhost and let other machines in through a proxy or tunnel that has them; where the "
                "network itself is protected, set allow_insecure = true",
                Reason.INSECURE_LISTENER,
            )


def _unusable(auth: Auth, problem: str) -> Invalid:
    return Invalid(
        Reason.SETTINGS_INVALID,
        f"The settings cannot be used: auth.operator_key_file: {auth.operator_key_file} {problem}.",
    )
