"""Provenance: content credentials (C2PA 2) in an output, and what can be read back of where a file is from.

In: an output of reroll, its record, a certificate and its key. Out: the same file, signed: that it is trained
algorithmic media (IPTC's source type), by what it was made, from which footage of whose. Formats that hold no
credentials (WebM, a folder of PNG frames) get them beside them, in `<output>.c2pa`.

The signing is c2pa-python's; it comes with `pip install '.[export]'`, as do the development certificate's parts.
"""

import datetime
import hashlib
import io
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reroll.errors import RerollError, UsageError, one_line
from reroll.export.formats import read_record
from reroll.export.media import atomic_path

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NEW, WITH_FOOTAGE, RETIMED = (
    f"{IPTC}{name}"
    for name in ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicallyEnhanced")
)
SOURCE_TYPES = {"sample": NEW, "vary": NEW, "retime": RETIMED}
"""Of tasks; those that keep footage are composites."""
LABEL = "org.reroll.record"
MIME = {
    ".mp4": "video/mp4", ".mov": "video/quicktime", ".gif": "image/gif", ".webp": "image/webp",
    ".png": "image/png", ".apng": "image/png",
}  # fmt: skip
DEVELOPMENT = "reroll development"
DEVELOPMENT_DAYS = 365


@dataclass(frozen=True)
class Identity:
    """Who signs: PEM files of a certificate, its chain after it, and of its private key."""

    certificate: Path
    key: Path

    @classmethod
    def find(cls, certificate: Path | None, key: Path | None, default: Path) -> "Identity":
        """The one given, or the development one that `make_development_identity` left in `default`."""
        if (certificate is None) != (key is None):
            raise UsageError("--certificate and --key belong together; give both.")
        found = cls(*_places(default)) if certificate is None or key is None else cls(certificate, key)
        for path in (found.certificate, found.key):
            if not path.is_file():
                raise UsageError(
                    f"--sign: {path} is missing; give --certificate and --key, or make a development certificate with"
                    " `reroll doctor --make-dev-cert`."
                )
        return found

    def check(self) -> None:
        """UsageError if it cannot sign; said before anything is made."""
        _signer(_c2pa(), self)


def sign(output: Path, record: dict[str, Any], footage: dict[str, Any], identity: Identity) -> None:
    """Sign an output in place; `footage` is what its model was trained on. UsageError when it cannot be signed."""
    c2pa = _c2pa()
    signer = _signer(c2pa, identity)
    said = {"record": record, "footage": footage}
    source = SOURCE_TYPES.get(record["task"], WITH_FOOTAGE)
    agent = {"name": "reroll", "version": version("reroll")}
    created = {"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": agent}
    manifest = {
        "claim_generator_info": [agent],
        "title": output.name,
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [created]}},
            {
                "label": LABEL,
                "data": {"json": json.dumps(said, default=str)},
            },  # lists of numbers would become bytes
        ],
    }
    builder = c2pa.Builder(json.dumps(manifest))
    mime = None if output.is_dir() else MIME.get(output.suffix.lower())
    try:
        if mime is None:
            builder.set_no_embed()
            held = builder.sign(
                signer, "application/octet-stream", io.BytesIO(_content(output)), io.BytesIO()
            )
            with atomic_path(_beside(output)) as temporary:
                temporary.write_bytes(held)
            return
        with (
            atomic_path(output) as temporary,
            open(output, "rb") as source_file,
            open(temporary, "w+b") as target,
        ):
            builder.sign(signer, mime, source_file, target)
    except c2pa.C2paError as error:
        raise UsageError(f"--sign: {output} cannot be signed ({_short(error)}).") from None


@dataclass(frozen=True)
class Whence:
    """What a file says of where it is from. `problem` is None where a signature verifies, or there is none."""

    signed_by: str | None
    problem: str | None
    trusted: bool
    source_type: str | None
    record: dict[str, Any]
    footage: dict[str, Any]


def whence(path: Path) -> Whence:
    """Read it back, signed or not. UsageError when there is no such file."""
    if not path.exists():
        raise UsageError(f"{path}: no such file.")
    store = _store(path)
    if store is None:
        return Whence(None, None, False, None, read_record(path), {})
    active = store["manifests"][store["active_manifest"]]
    said: dict[str, Any] = {}
    source = None
    for assertion in active.get("assertions", []):
        if assertion["label"] == LABEL:
            said = json.loads(assertion["data"]["json"])
        elif assertion["label"].startswith("c2pa.actions"):
            source = assertion["data"]["actions"][0].get("digitalSourceType")
    failures = [
        each for each in store.get("validation_status", []) if each["code"] != "signingCredential.untrusted"
    ]
    about = active.get("signature_info", {})
    return Whence(
        signed_by=about.get("issuer") or about.get("common_name") or "somebody",
        problem=failures[0].get("explanation", failures[0]["code"]) if failures else None,
        trusted=store.get("validation_state") == "Trusted",
        source_type=source,
        record=said.get("record") or read_record(path),
        footage=said.get("footage", {}),
    )


def _store(path: Path) -> dict[str, Any] | None:
    """The manifest store of a file, as C2PA's own reader sees it; None if there is none."""
    mime = None if path.is_dir() else MIME.get(path.suffix.lower())
    if mime is None and not _beside(path).is_file():
        return None
    c2pa = _c2pa()
    try:
        if mime is None:
            held = _beside(path).read_bytes()
            reader = c2pa.Reader("application/octet-stream", io.BytesIO(_content(path)), held)
        else:
            with open(path, "rb") as file:
                reader = c2pa.Reader(mime, file)
        found: dict[str, Any] = json.loads(reader.json())
        found["validation_state"] = reader.get_validation_state()
    except c2pa.C2paError as error:
        if "ManifestNotFound" in type(error).__name__ or "no JUMBF data found" in str(error):
            return None
        raise RerollError(f"{path}: its credentials cannot be read ({_short(error)}).") from None
    return found


def _content(output: Path) -> bytes:
    """What is signed of an output beside it: a file, or the names and hashes of a folder's frames."""
    if not output.is_dir():
        return output.read_bytes()
    lines = [
        f"{hashlib.sha256(each.read_bytes()).hexdigest()} {each.name}\n" for each in sorted(output.iterdir())
    ]
    return "".join(lines).encode()


def _beside(output: Path) -> Path:
    return output.with_name(output.name + ".c2pa")


def _signer(c2pa: Any, identity: Identity) -> Any:  # noqa: ANN401
    """A signer for the key's own algorithm. UsageError if certificate or key cannot be used."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        pem = identity.key.read_bytes()
        key = load_pem_private_key(pem, None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            algorithm = {256: "es256", 384: "es384", 521: "es512"}[key.curve.key_size]
        elif isinstance(key, rsa.RSAPrivateKey):
            algorithm = "ps256"
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            algorithm = "ed25519"
        else:
            raise ValueError("a kind of key that C2PA does not know")
        info = c2pa.C2paSignerInfo(algorithm.encode(), identity.certificate.read_bytes(), pem, None)
        return c2pa.Signer.from_info(info)
    except (OSError, ValueError, TypeError, KeyError, c2pa.C2paError) as error:
        raise UsageError(
            f"--sign: {identity.certificate} and {identity.key} cannot be used ({_short(error)}); give PEM files of a"
            " certificate with its chain, and of its key without a password."
        ) from None


def make_development_identity(folder: Path) -> Identity:
    """A certificate to try signing with, which nobody trusts, and its key, readable by its owner only."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise RerollError(MISSING) from None

    now = datetime.datetime.now(datetime.UTC)
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("authority", "signer")}

    def name(who: str) -> x509.Name:
        return x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVELOPMENT), x509.NameAttribute(NameOID.COMMON_NAME, who)
        ])  # fmt: skip

    def certificate(who: str, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(who))
            .issuer_name(name("authority"))
            .public_key(keys[who].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=DEVELOPMENT_DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[who].public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(keys["authority"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
        return x509.KeyUsage(signs, False, False, False, False, certifies, certifies, False, False)

    signer = certificate(
        "signer",
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(signs=True, certifies=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["authority"].public_key()), False),
    )
    authority = certificate(
        "authority",
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage(signs=True, certifies=True), True),
    )
    private = keys["signer"].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Identity(*_places(folder))
    for path, content in ((made.certificate, signer + authority), (made.key, private)):
        with atomic_path(path) as temporary:
            os.chmod(temporary, 0o600)
            temporary.write_bytes(content)
    return made


def _places(folder: Path) -> tuple[Path, Path]:
    """Where a development identity is kept."""
    return folder / "development-certificate.pem", folder / "development-key.pem"


MISSING = "content credentials need c2pa-python; in a clone of reroll: pip install '.[export]'"


def _c2pa() -> Any:  # noqa: ANN401
    try:
        import c2pa  # type: ignore[import-untyped]
    except ImportError:
        raise RerollError(MISSING) from None
    return c2pa


def _short(error: Exception) -> str:
    return one_line(error)[:160] or type(error).__name__
