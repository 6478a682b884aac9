"""Passwords of tenants' roles: derived from a key of the installation, stored nowhere, and never sent to Postgres.

A password is HMAC-SHA-256 (RFC 2104) of role and key version under the key, so whoever has the key can log in, and
nobody else. Postgres gets the SCRAM verifier only (RFC 5803), from which the password cannot be had back.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import Settings, tenant_keys

# Iterations make guessing dear, and 256 random bits cannot be guessed anyhow; each login computes them.
_ITERATIONS = 1


@dataclass(frozen=True)
class TenantKeys:
    """The keys of an installation by version. The highest is what passwords are made from now."""

    secrets: Mapping[int, str] = field(repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "TenantKeys":
        """The keys of `KIKET_TENANT_KEYS`. Raises `InvalidSetting` where it is not set."""
        if settings.tenant_keys is None:
            raise InvalidSetting(
                "KIKET_TENANT_KEYS is not set: each organisation has a database role whose password is derived from "
                'it. Set it to "1:" and what `openssl rand -base64 32` prints, the same for every process'
            )
        return cls(tenant_keys(settings.tenant_keys.get_secret_value()))

    @property
    def current(self) -> int:
        """The version to use for what is made now."""
        return max(self.secrets)

    def password(self, role: str, version: int) -> str:
        """The password of a role under a version of the key. Raises `InvalidSetting` where that key is not there."""
        if version not in self.secrets:
            raise InvalidSetting(
                f"the password of role {role} was made with version {version} of the key, which KIKET_TENANT_KEYS does "
                "not have: add it, and take it away after `kiket-worker tenants rotate-keys` has left nobody with it"
            )
        return base64.urlsafe_b64encode(self._derived("password", role, version)).decode().rstrip("=")

    def verifier(self, role: str, version: int) -> str:
        """What Postgres keeps in place of the password (RFC 5803; PostgreSQL manual, pg_authid.rolpassword).

        Raises `InvalidSetting` as `password` does.
        """
        password = self.password(role, version)
        salt = self._derived("salt", role, version)[:16]
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
        stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        server = hmac.digest(salted, b"Server Key", "sha256")
        return f"SCRAM-SHA-256${_ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"

    def _derived(self, purpose: str, role: str, version: int) -> bytes:
        return hmac.digest(
            self.secrets[version].encode(), f"kiket-worker/{purpose}/{version}/{role}".encode(), "sha256"
        )


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
