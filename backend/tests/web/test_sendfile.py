"""Files on their way to clients: whole, in their turn, and no trouble to others whatever a client does."""

import socket
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from live_server import PATIENCE, encode, scripted_server
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere waitress sends the files itself")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with scripted_server(tmp_path_factory.mktemp("sent")) as client:
        yield client


def large(more=0):
    """A picture of 12 MB, more than the system holds for a connection (4 MB at most, as it is shipped)."""
    return encode(Image.effect_noise((4000, 3000 + more), 100), "BMP")


@pytest.fixture(scope="module")
def upload(client):
    """A picture, and where its bytes are to be had."""
    data = large()
    job_id = client.upload(data, "noise.bmp")
    return data, client.status(job_id)["preview_url"]


@contextmanager
def asked(client, path, times=1):
    """A connection that has asked for a path so often and read nothing yet."""
    url = urlsplit(client.address)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(PATIENCE)
        connection.connect((url.hostname, url.port))
        request = f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
        connection.sendall(request * times)
        yield connection


def read(connection, size=None):
    """So many bytes, or all until the server closes the connection."""
    parts, left = [], size
    while left is None or left > 0:
        try:
            part = connection.recv(min(65_536, left or 65_536))
        except ConnectionResetError:
            break
        if not part:
            break
        parts.append(part)
        left = None if left is None else left - len(part)
    return b"".join(parts)


def answer(connection):
    """The body of the next answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(connection, 1)
    length = next(line for line in head.decode().lower().splitlines() if line.startswith("content-length"))
    return read(connection, int(length.partition(":")[2]))


def test_one_connection_has_one_after_the_other(client, upload):
    data, path = upload
    for _ in range(3):
        assert client.get(path).content == data
        assert client.get("/api/health").status_code == 200
    with asked(client, path, times=3) as connection:
        assert [answer(connection) == data for _ in range(3)] == [True] * 3


def test_who_reads_slowly_keeps_nobody_waiting(client, upload):
    data, path = upload
    with asked(client, path) as one, asked(client, path) as other:
        assert client.get(path).content == data
        assert answer(other) == data
        assert answer(one) == data


def test_who_goes_away_harms_nobody(client, upload):
    data, path = upload
    for _ in range(20):
        with asked(client, path) as connection:
            read(connection, 5000)
    assert client.get(path).content == data


def test_a_part_of_a_file(client, upload):
    data, path = upload
    part = client.get(path, headers={"Range": "bytes=1000000-2999999"})
    assert (part.status_code, part.content) == (206, data[1_000_000:3_000_000])


def test_what_is_deleted_meanwhile_comes_whole(client):
    data = large(1)
    job_id = client.upload(data, "noise.bmp")
    with asked(client, client.status(job_id)["preview_url"]) as connection:
        connection.recv(1, socket.MSG_PEEK)  # it is on its way
        assert client("DELETE", f"/api/jobs/{job_id}").status_code == 200
        assert answer(connection) == data


def test_what_is_cut_short_meanwhile_ends_the_connection(client, tmp_path_factory):
    data = large(2)
    job_id = client.upload(data, "noise.bmp")
    with asked(client, client.status(job_id)["preview_url"]) as connection:
        assert read(connection, 9) == b"HTTP/1.1 "
        (kept,) = tmp_path_factory.getbasetemp().rglob(f"{job_id}.bmp")
        with kept.open("r+b") as file:
            file.truncate(1000)
        assert len(read(connection)) < len(data)
    assert client.get("/api/health").status_code == 200
