"""Passwords of tenants' roles: derived, different for each role and version, and never shown."""

import base64
import hashlib
import hmac
import re

import pytest

from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import Settings, load_settings, tenant_keys
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login

SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"
OTHER = "hunter3-hunter3-hunter3-hunter3-hunter3"
KEYS = TenantKeys({1: SECRET, 2: SECRET})
ACME, READER = "analytics_org_acme", "analytics_ro_acme"


def configured(monkeypatch: pytest.MonkeyPatch, keys: str | None) -> Settings:
    monkeypatch.setenv("DATABASE_URL", "postgresql://kiket@localhost/kiket")
    monkeypatch.setenv("RABBITMQ_URL", "memory://")
    monkeypatch.setenv("ARTIFACTS_URL", "file:///tmp/x")
    if keys is None:
        monkeypatch.delenv("KIKET_TENANT_KEYS", raising=False)
    else:
        monkeypatch.setenv("KIKET_TENANT_KEYS", keys)
    return load_settings()


def test_a_password_differs_by_role_by_version_and_by_secret() -> None:
    keys = [TenantKeys({1: SECRET, 2: SECRET}), TenantKeys({1: OTHER, 2: OTHER})]
    passwords = [key.password(role, version) for key in keys for role in (ACME, READER) for version in (1, 2)]
    assert len(set(passwords)) == 8
    verifiers = [key.verifier(role, version) for key in keys for role in (ACME, READER) for version in (1, 2)]
    assert len(set(verifiers)) == 8


def test_a_version_and_a_role_cannot_be_moved_into_each_other() -> None:
    keys = TenantKeys({1: SECRET, 11: SECRET})
    assert keys.password("1/x", 1) != keys.password("x", 11)
    assert keys.password("x", 1) != keys.password("1/x", 1)


def test_every_process_derives_the_same_password_and_the_same_verifier() -> None:
    again = TenantKeys(dict(KEYS.secrets))
    assert again.password(ACME, 1) == KEYS.password(ACME, 1)
    assert again.verifier(ACME, 1) == KEYS.verifier(ACME, 1)
    # Of this release and every later one, or an upgrade would lock every tenant out.
    digest = hmac.digest(SECRET.encode(), b"kiket-worker/password/1/analytics_org_acme", "sha256")
    assert KEYS.password(ACME, 1) == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_a_password_has_256_bits_and_needs_no_quoting() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", KEYS.password(ACME, 1))


def test_the_verifier_is_that_of_the_password_and_does_not_hold_it() -> None:
    """As RFC 5803 has it; that Postgres takes it for the password, a login shows (test_provisioning)."""
    match = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", KEYS.verifier(ACME, 1))
    assert match
    salt, stored, server = (base64.b64decode(part, validate=True) for part in match.group(2, 3, 4))
    salted = hashlib.pbkdf2_hmac("sha256", KEYS.password(ACME, 1).encode(), salt, int(match[1]))
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")
    assert len(salt) == 16
    assert KEYS.password(ACME, 1) not in KEYS.verifier(ACME, 1)


def test_salts_differ_by_role() -> None:
    salts = {KEYS.verifier(role, version).split("$")[1] for role in (ACME, READER) for version in (1, 2)}
    assert len(salts) == 4


def test_the_highest_version_is_the_current_one() -> None:
    assert TenantKeys({2: SECRET, 10: OTHER, 9: SECRET}).current == 10


def test_a_version_that_is_not_there_is_named_with_the_remedy() -> None:
    with pytest.raises(InvalidSetting) as caught:
        TenantKeys({3: SECRET}).password(ACME, 2)
    for word in (ACME, "version 2", "KIKET_TENANT_KEYS", "add it", "rotate-keys"):
        assert word in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidSetting, match="KIKET_TENANT_KEYS"):
        TenantKeys({3: SECRET}).verifier(ACME, 2)


def test_keys_that_are_not_set_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match=r"KIKET_TENANT_KEYS is not set.*openssl rand -base64 32"):
        TenantKeys.from_settings(configured(monkeypatch, None))


def test_several_keys_are_read_with_spaces_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configured(monkeypatch, f" 1:{SECRET} , 27:{OTHER} ")
    assert TenantKeys.from_settings(settings) == TenantKeys({1: SECRET, 27: OTHER})


def test_what_openssl_prints_is_a_secret() -> None:
    printed = base64.b64encode(bytes(range(220, 252))).decode()
    assert {"+", "/", "="} & set(printed)
    assert tenant_keys(f"1:{printed}") == {1: printed}


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f":{SECRET}",
        f"0:{SECRET}",
        f"01:{SECRET}",
        f"-1:{SECRET}",
        f"one:{SECRET}",
        f"1234567:{SECRET}",
        f"1={SECRET}",
        f"1:{SECRET[:31]}",
        f"1:{SECRET} ;",
        f"1:{SECRET}\N{KEY}",
        f"1:{SECRET},",
        f"1:{SECRET},,2:{SECRET}",
        f"1:{SECRET},1:{SECRET}",
        f"1:{SECRET},2:short",
        f"1:{SECRET}\n2:{SECRET}",
        f"1:{SECRET * 20}",
    ],
)
def test_malformed_keys_are_named_and_never_repeated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        configured(monkeypatch, text)
    message = str(caught.value)
    assert message.startswith("KIKET_TENANT_KEYS: must be VERSION:SECRET")
    assert "openssl rand" in message
    assert caught.value.__suppress_context__
    for part in ("hunter", "short"):
        assert part not in message


def test_no_secret_is_in_print(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configured(monkeypatch, f"1:{SECRET}")
    keys = TenantKeys.from_settings(settings)
    password = keys.password(ACME, 1)
    shown = repr(keys) + str(keys) + repr(settings) + settings.model_dump_json() + repr(Login(ACME, password))
    assert "hunter" not in shown
    assert password not in shown
