"""Keys and certificates of those who sign their messages, and clients that are set up for it."""
import contextlib
import copy
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from kombu.serialization import registry


@contextlib.contextmanager
def secured(app, inner="json", digest="sha256", **conf):
    """app.setup_security() changes the serializers of the whole process: afterwards they are what they were."""
    before = {attribute: copy.copy(value) for attribute, value in vars(registry).items()}
    app.conf.update(task_serializer="auth", accept_content=["auth"], **conf)
    try:
        app.setup_security(serializer=inner, digest=digest)
        yield app
    finally:
        vars(registry).update(before)


class Ring:
    """<name>.key and <name>.pem in a folder; the certificates of those who are trusted are in its folder `store` too."""

    def __init__(self, folder):
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir(parents=True)

    def add(self, name, trusted=True, days=(-1, 1), password=None):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        owner = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bücher & Söhne"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (x509.CertificateBuilder().subject_name(owner).issuer_name(owner).public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now + datetime.timedelta(days=days[0])).not_valid_after(now + datetime.timedelta(days=days[1]))
                       .sign(key, hashes.SHA256())).public_bytes(serialization.Encoding.PEM)
        locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
        for path in [self.folder / f"{name}.pem"] + trusted * [self.store / f"{name}.pem"]:
            path.write_bytes(certificate)
        return self

    def files(self, name):
        """As Celery's settings name them."""
        return {"security_key": str(self.folder / f"{name}.key"), "security_certificate": str(self.folder / f"{name}.pem"), "security_cert_store": str(self.store)}

    def settings(self, name):
        """As ours do."""
        return {f"job.{setting}": path for setting, path in self.files(name).items()}

    def secured(self, app, name, **conf):
        return secured(app, **self.files(name), **conf)
