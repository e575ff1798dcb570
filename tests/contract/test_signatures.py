"""Launch tokens and report signatures: only what is signed, fresh and meant for us is believed."""

import base64
import hmac
import json
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from contract import signatures
from contract.signatures import LaunchClaims, SignatureRefusedError

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NOW = 1_700_000_000.0
CLAIMS = LaunchClaims(
    member="m1",
    launch_id="0123456789abcdef" * 2,
    provider="gh",
    spec="gh/o/r/main",
    repo_url="https://github.com/o/r",
    resolved_ref="c" * 40,
    issued_at=NOW,
    expires_at=NOW + 60,
    client="192.0.2.1",
    launch_host="https://gateway.example/",
    ref_url="https://github.com/o/r/tree/c",
    persistent_spec="gh/o/r/c",
)


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _verify(
    token: str, *, member: str = "m1", now: float = NOW, keys: tuple[Ed25519PrivateKey, ...] = (KEY,)
) -> LaunchClaims:
    return signatures.verify_launch(token, [key.public_key() for key in keys], member=member, now=now)


def test_an_order_comes_back_as_it_was_also_while_keys_are_rotated() -> None:
    assert _verify(signatures.sign_launch(CLAIMS, KEY)) == CLAIMS
    assert _verify(signatures.sign_launch(CLAIMS, KEY), keys=(OTHER, KEY)) == CLAIMS
    forced = replace(CLAIMS, force=True)
    assert _verify(signatures.sign_launch(forced, KEY)) == forced
    named = replace(CLAIMS, user="alice@example.org")
    assert _verify(signatures.sign_launch(named, KEY)) == named
    # Where nobody logs in, the claim is not there.
    assert "user" not in jwt.decode(signatures.sign_launch(CLAIMS, KEY), options={"verify_signature": False})


@pytest.mark.parametrize(
    ("claims", "key", "now", "said"),
    [
        (CLAIMS, OTHER, NOW, "signature"),
        (replace(CLAIMS, member="m2"), KEY, NOW, "another member"),
        (CLAIMS, KEY, NOW + 71, "expired"),
        (CLAIMS, KEY, NOW - 11, "future"),
        (replace(CLAIMS, launch_id="short"), KEY, NOW, "names no launch"),
    ],
)
def test_what_is_refused(claims: LaunchClaims, key: Ed25519PrivateKey, now: float, said: str) -> None:
    with pytest.raises(SignatureRefusedError, match=said):
        _verify(signatures.sign_launch(claims, key), now=now)


def test_the_leeway_covers_clocks_that_differ_a_little() -> None:
    token = signatures.sign_launch(CLAIMS, KEY)
    assert _verify(token, now=NOW + 67) == CLAIMS
    assert _verify(token, now=NOW - 7) == CLAIMS


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "a.b.c", "é", "\udcff.e30.AA"),
        jwt.encode({}, "k" * 32),
        jwt.encode({"aud": "m1"}, None, "none"),
        f"{_part(b'[' * 20_000)}.e30.AA",
    ],
)
def test_what_is_no_token_of_ours(token: str) -> None:
    with pytest.raises(SignatureRefusedError):
        _verify(token)


def test_no_algorithm_and_no_other_kind_of_token_passes() -> None:
    payload = jwt.decode(signatures.sign_launch(CLAIMS, KEY), options={"verify_signature": False})
    unsigned = jwt.encode(payload, None, "none", headers={"typ": signatures.LAUNCH_TYPE})
    as_report = signatures.sign_report(payload, KEY)
    public = signatures.public_pem(KEY.public_key())
    with pytest.raises(SignatureRefusedError):
        _verify(unsigned)
    with pytest.raises(SignatureRefusedError, match="type"):
        _verify(as_report)
    # A public key used as a shared secret: the classic confusion of algorithms.  By hand, the library refuses to.
    header = json.dumps({"alg": "HS256", "typ": signatures.LAUNCH_TYPE}).encode()
    signed = f"{_part(header)}.{_part(json.dumps(payload).encode())}"
    confused = f"{signed}.{_part(hmac.digest(public.encode(), signed.encode(), 'sha256'))}"
    with pytest.raises(SignatureRefusedError, match="alg"):
        _verify(confused)


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    token = signatures.sign_launch(CLAIMS, KEY)
    head, body, signature = (base64.urlsafe_b64decode(f"{part}==") for part in token.split("."))
    parts = [head, body, signature]
    which = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[at] ^= data.draw(st.integers(1, 255))
    parts[which] = bytes(changed)
    with pytest.raises(SignatureRefusedError):
        _verify(".".join(_part(part) for part in parts))


@pytest.mark.parametrize("bad", [None, "soon", True, -1, 2**50])
def test_times_that_are_none(bad: object) -> None:
    payload = {"aud": "m1", "jti": CLAIMS.launch_id, "iat": NOW, "exp": bad}
    token = jwt.encode(payload, KEY, "EdDSA", headers={"typ": signatures.LAUNCH_TYPE})
    with pytest.raises(SignatureRefusedError, match="exp"):
        _verify(token)


def test_a_report_is_believed_of_its_member_alone() -> None:
    token = signatures.sign_report({"member": "m1", "seq": 1}, KEY)
    assert signatures.reported_member(token) == "m1"
    assert signatures.verify_report(token, [KEY.public_key()]) == {"member": "m1", "seq": 1}
    with pytest.raises(SignatureRefusedError):
        signatures.verify_report(token, [OTHER.public_key()])
    with pytest.raises(SignatureRefusedError):
        signatures.verify_report(signatures.sign_launch(CLAIMS, KEY), [KEY.public_key()])
    with pytest.raises(SignatureRefusedError):
        signatures.reported_member("nonsense")


def test_keys_as_files_hold_them() -> None:
    assert signatures.private_pem(signatures.load_private_key(signatures.private_pem(KEY))) == signatures.private_pem(
        KEY
    )
    public = signatures.public_pem(KEY.public_key())
    assert signatures.public_pem(signatures.load_public_key(public)) == public
    other_kind = (
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    for load in (signatures.load_private_key, signatures.load_public_key):
        for text in ("", "nonsense", other_kind):
            with pytest.raises(ValueError, match="key"):
                load(text)
