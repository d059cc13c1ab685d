"""The guard: which requests pass, whoever sends them."""

import socket

import pytest
from live_server import fresh_png, scripted_server

from web.security import RateLimiter


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with scripted_server(tmp_path_factory.mktemp("guard")) as client:
        client.port = int(client.address.rpartition(":")[2])
        yield client


def clear(client, **headers):
    headers = {name.replace("_", "-"): value.replace("PORT", str(client.port)) for name, value in headers.items()}
    return client.post("/api/cache/clear", headers=headers).status_code


@pytest.mark.parametrize(
    "host", ["localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "LOCALHOST:PORT", "localhost", "127.0.0.2:PORT"]
)
def test_our_own_names_pass(client, host):
    assert clear(client, Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:PORT",
        "2130706433:PORT",
        "0x7f.1:PORT",
        "localhost.evil.example",
        "127.0.0.1.evil.example:PORT",
        "evil.example, localhost",
        "localhost@evil.example",
        "192.168.1.9:PORT",
        "[::ffff:8.8.8.8]",
    ],
)
def test_a_foreign_host_is_refused_for_reading_and_writing(client, host):
    host = host.replace("PORT", str(client.port))
    for method, path in (("GET", "/api/health"), ("GET", "/"), ("POST", "/api/cache/clear")):
        answer = client(method, path, headers={"Host": host})
        assert answer.status_code == 403, host
        assert answer.json()["code"] == "forbidden_host"


@pytest.mark.parametrize("request_line", ["GET /api/health HTTP/1.1\r\nHost:\r\n", "GET /api/health HTTP/1.0\r\n"])
def test_no_host_is_refused(client, request_line):
    with socket.create_connection(("127.0.0.1", client.port)) as raw:
        raw.sendall(f"{request_line}Connection: close\r\n\r\n".encode())
        assert raw.recv(100).split()[1] == b"403"


@pytest.mark.parametrize("origin", ["http://localhost:PORT", "http://127.0.0.1:PORT", "http://[::1]:PORT"])
def test_our_own_pages_may_write_whichever_name_they_were_opened_at(client, origin):
    assert clear(client, Origin=origin) == 200
    assert clear(client, Origin=origin, Host="localhost:PORT") == 200
    allowed = client.get("/api/health", headers={"Origin": origin.replace("PORT", str(client.port))})
    assert allowed.headers["Access-Control-Allow-Origin"] == origin.replace("PORT", str(client.port))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "http://127.0.0.1",
        "https://localhost.evil.example",
        "garbage",
        "",
        "http://localhost:PORT.evil.example",
        "http://localhost:PORT@evil.example",
    ],
)
def test_other_pages_may_not_write(client, origin):
    assert clear(client, Origin=origin) == 403
    answer = client.get("/api/health", headers={"Origin": origin.replace("PORT", str(client.port))})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_cross_site_write_without_origin_is_refused(client):
    assert clear(client, Sec_Fetch_Site="cross-site") == 403
    assert clear(client, Sec_Fetch_Site="same-site") == 403
    assert clear(client, Sec_Fetch_Site="same-origin") == 200
    assert clear(client) == 200  # curl


def test_a_form_of_another_site_cannot_upload(client):
    headers = {"Origin": "http://evil.example"}
    answer = client.post("/api/upload-image", files={"image": ("a.png", fresh_png())}, headers=headers)
    assert answer.status_code == 403


def test_preflights(client):
    wanted = ("content-type", "cache-control", "pragma", "authorization", "x-api-key", "ngrok-skip-browser-warning")
    headers = {
        "Origin": f"http://localhost:{client.port}",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(wanted),
    }
    answer = client("OPTIONS", "/api/generate-3d", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == headers["Origin"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in wanted)
    foreign = client("OPTIONS", "/api/generate-3d", headers={**headers, "Origin": "http://evil.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_configured_origins_and_any(tmp_path):
    with scripted_server(tmp_path, CORS_ORIGINS="https://studio.example, http://localhost:8080") as client:
        client.port = int(client.address.rpartition(":")[2])
        assert clear(client, Origin="https://studio.example") == 200
        assert clear(client, Origin="http://localhost:8080") == 200
        assert clear(client, Origin="http://localhost:PORT") == 200
        assert clear(client, Origin="https://studio.example.evil") == 403
    with scripted_server(tmp_path, CORS_ORIGINS="*") as client:
        client.port = int(client.address.rpartition(":")[2])
        assert clear(client, Origin="http://anywhere.example") == 200


def test_answers_carry_the_headers_that_browsers_heed(client):
    for path in ("/", "/api/health", "/api/nothing"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_an_api_key_guards_everything_but_health(tmp_path):
    with scripted_server(tmp_path, ORFEAS_API_KEY="correct-horse") as client:
        assert client.get("/api/health").status_code == 200
        assert client.get("/health").status_code == client.get("/api/ready").status_code == 200
        paths = {
            "GET": (
                "/api/jobs",
                "/api/openapi.json",
                "/api/docs",
                "/api/cache/stats",
                "/status/x",
                "/metrics",
                "/api/nothing",
            ),
            "POST": ("/api/cache/clear", "/api/upload-image", "/generate", "/send"),
            "DELETE": ("/api/jobs/x",),
        }
        wrong = (
            {},
            {"X-API-Key": "wrong"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic correct-horse"},
            {"X-API-Key": "grün".encode("latin-1")},
        )
        for method, path in ((method, path) for method, group in paths.items() for path in group):
            for headers in wrong:
                answer = client(method, path, headers=headers)
                assert answer.status_code == 401, (method, path, headers)
        for headers in ({"X-API-Key": "correct-horse"}, {"Authorization": "Bearer correct-horse"}):
            assert client.get("/api/cache/stats", headers=headers).status_code == 200


def test_the_rate_limit_answers_429_and_spares_health_and_polling(tmp_path):
    with scripted_server(tmp_path, ENABLE_RATE_LIMITING="true", RATE_LIMIT_PER_MINUTE="3") as client:
        codes = [client.get("/api/cache/stats").status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert 1 <= int(client.get("/api/jobs").headers["Retry-After"]) <= 61
        assert client.get("/api/health").status_code == 200
        assert client.get("/api/job-status/nobody").status_code == 404


def test_the_rate_limit_is_per_address_and_slides():
    now = 0.0
    limiter = RateLimiter(2, clock=lambda: now)
    assert [limiter.retry_after("a") for _ in range(3)] == [0, 0, 60]
    assert limiter.retry_after("b") == 0
    now = 59.0
    assert limiter.retry_after("a") == 1
    now = 60.0
    assert limiter.retry_after("a") == 0
