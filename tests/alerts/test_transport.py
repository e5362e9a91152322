import ipaddress
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.alerts.transport import Policy, is_public, post, retry_after_s, url_fault
from tests.alerts.server import scripted

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
INNER = Policy(timeout_s=5, allow_private=True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "::127.0.0.1",
    ],
)
def test_an_inner_or_embedding_address_is_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111"])
def test_an_open_address_is_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://example.com/", "must begin with https"),
        ("ftp://example.com/", "not valid"),
        ("file:///etc/passwd", "not valid"),
        ("https://", "not valid"),
        ("https://[::1", "not valid"),
        ("https://example.com:99999/", "not valid"),
        ("https://exa mple.com/", "not valid"),
        ("https://example.com/\r\nX: 1", "not valid"),
        ("https://user:pass@example.com/", "user name"),
        ("https://other.example/", "allow_hosts"),
    ],
)
def test_a_url_is_refused_before_anything_is_resolved(url, fault):
    reply = post(url, b"{}", {}, Policy(allow_hosts=("example.com",)))

    assert fault in reply.error


def test_an_allowed_host_passes_whatever_its_case():
    assert url_fault("https://EXAMPLE.com/", Policy(allow_hosts=("Example.COM",))) is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"]
)
def test_loopback_is_refused_however_it_is_written(host):
    with scripted() as server:
        port = server.url.split(":")[2].split("/")[0]

        reply = post(f"https://{host}:{port}/", b"{}", {}, Policy(timeout_s=2))

    assert "not allowed" in reply.error
    assert server.requests == []


def test_cloud_metadata_stays_shut_even_where_private_addresses_are_allowed():
    assert "not allowed" in post("http://169.254.169.254/", b"{}", {}, INNER).error


def test_plain_http_does_not_leave_the_inner_network():
    assert "not allowed" in post("http://8.8.8.8/", b"{}", {}, INNER).error


def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch):
    """A resolver that answers otherwise the second time leads nowhere."""
    asked = []

    def resolve(host, port, *_args, **_kwargs):
        asked.append(host)
        place = "8.8.8.8" if len(asked) > 1 and host == "rebind.example" else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port))]

    with scripted() as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        url = server.url.replace("127.0.0.1", "rebind.example")

        reply = post(url, b"{}", {}, INNER)

    assert reply.status == 204
    assert asked.count("rebind.example") == 1
    assert server.requests[0][1]["Host"].startswith("rebind.example")


def test_a_redirect_is_not_followed():
    with scripted() as target, scripted((302, {"Location": target.url})) as server:
        reply = post(server.url, b"{}", {}, INNER)

    assert reply.status == 302
    assert target.requests == []


def test_no_proxy_of_the_environment_is_used(monkeypatch):
    with scripted() as proxy, scripted() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        post(server.url, b"{}", {}, INNER)

    assert len(server.requests) == 1
    assert proxy.requests == []


def test_a_closed_port_is_an_error_without_the_url():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        reply = post(f"http://127.0.0.1:{port}/T0KEN", b"{}", {}, INNER)

    assert reply.error == "connection refused"


def _serve_once(answer):
    """Listen, accept one connection, send the answer and then nothing more."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            answer(connection, done)

    thread = threading.Thread(target=serve)
    thread.start()

    def close():
        done.set()
        thread.join()
        listener.close()

    return f"http://127.0.0.1:{listener.getsockname()[1]}/", close


@pytest.fixture
def serve_once():
    closers = []

    def serve(answer):
        url, close = _serve_once(answer)
        closers.append(close)
        return url

    yield serve
    for close in closers:
        close()


def test_a_receiver_that_says_nothing_is_cut_off(serve_once):
    url = serve_once(lambda _connection, done: done.wait(10))

    reply = post(url, b"{}", {}, Policy(timeout_s=0.2, allow_private=True))

    assert reply.error == "timed out"


def test_a_receiver_that_drips_is_cut_off_in_total_time(serve_once):
    def drip(connection, done):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not done.wait(0.05):
            try:
                connection.sendall(b"X-A: b\r\n")
            except OSError:
                return

    url = serve_once(drip)

    reply = post(url, b"{}", {}, Policy(timeout_s=0.4, allow_private=True))

    assert reply.error == "timed out"


def test_an_endless_answer_is_read_only_in_part(serve_once):
    def flood(connection, done):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not done.is_set():
            try:
                connection.sendall(b"x" * 65536)
            except OSError:
                return

    assert post(serve_once(flood), b"{}", {}, INNER).status == 200


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 99999999 x\r\n\r\n"])
def test_an_answer_that_is_not_http_is_an_error(serve_once, answer):
    reply = post(serve_once(lambda connection, _: connection.sendall(answer)), b"{}", {}, INNER)

    assert reply.error in {"the answer is not HTTP", "the connection was closed"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the file of a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    started = datetime.now(UTC) - timedelta(days=1)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(started)
        .not_valid_after(started + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_for_the_name_in_the_url_is_accepted(certificate, tls, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with scripted(context=tls) as server:
        reply = post(server.url.replace("127.0.0.1", "localhost"), b"{}", {}, INNER)

    assert reply.status == 204
    assert server.requests[0][0] == "/hook?t=T0KEN"


@pytest.mark.parametrize(("trusted", "host"), [(False, "localhost"), (True, "127.0.0.1")])
def test_an_unknown_or_foreign_certificate_is_refused(certificate, tls, monkeypatch, trusted, host):
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with scripted(context=tls) as server:
        reply = post(server.url.replace("127.0.0.1", host), b"{}", {}, INNER)

    assert reply.error == "the certificate is not valid"
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        ("soon", None),
        ("-5", None),
        ("Fri, 20 Nov 2026 12:01:30 GMT", 90.0),
        ("Fri, 20 Nov 2020 12:01:30 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(text, expected):
    assert retry_after_s(text, NOW) == expected
