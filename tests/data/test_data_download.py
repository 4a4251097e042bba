"""Downloads from a real server on this machine: whole, resumed, mirrored, damaged, refused."""

from __future__ import annotations

import hashlib
import http.client
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kdstats.data import download as module
from kdstats.data.download import ARCHIVES, Archive, archive_of, download
from kdstats.data.registry import names
from kdstats.data.sources import LAYOUTS
from kdstats.data.sources.cifar_python import files_of
from kdstats.errors import MissingError, UsageError
from kdstats.offline import VARIABLE


class Server:
    """Serves ``files``; ``cut`` ends the next answer after so many bytes; ``ranges`` tells whether it knows them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                body = outer.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = int(wanted.split("=")[1].rstrip("-")) if wanted and outer.ranges else 0
                self.send_response(206 if start else 200)
                body = body[start:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if outer.cut is None else body[: outer.cut])
                if outer.cut is not None:
                    outer.cut = None
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(VARIABLE, raising=False)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def packed(folder: str = "set", name: str = "a.bin", content: bytes = b"x" * 300_000) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo(f"{folder}/{name}")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def archive(server: Server, body: bytes, *paths: str, unpacks_to: str = "") -> Archive:
    for path in paths[-1:]:
        server.files[path] = body
    urls = tuple(server.url + path for path in paths)
    return Archive(
        "file.tar.gz", urls, len(body), hashlib.md5(body, usedforsecurity=False).hexdigest(), unpacks_to
    )


def test_a_whole_set_is_fetched_checked_and_unpacked_once(server, tmp_path):
    wanted = archive(server, packed(), "/f", unpacks_to="set")
    seen = []
    found = download(wanted, tmp_path / "data", lambda have, size: seen.append((have, size)))
    assert found == tmp_path / "data"
    assert (found / "set" / "a.bin").read_bytes() == b"x" * 300_000
    assert seen[-1] == (wanted.size, wanted.size)
    download(wanted, tmp_path / "data")
    assert len(server.asked) == 1  # what is there is not fetched again
    assert sorted(p.name for p in found.iterdir()) == ["file.tar.gz", "set"]


def test_an_archive_that_is_read_as_it_is_stays_packed(server, tmp_path):
    wanted = archive(server, b"zip" * 1000, "/f")
    assert download(wanted, tmp_path).read_bytes() == b"zip" * 1000


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    body = bytes(range(256)) * 9000
    wanted = archive(server, body, "/f")
    server.ranges = ranges
    server.cut = 1_200_000
    with pytest.raises(
        MissingError, match=r"ended after \d+ of 2304000 bytes; the next run goes on|IncompleteRead"
    ):
        download(wanted, tmp_path)
    kept = (tmp_path / "file.tar.gz.part").stat().st_size
    assert kept > 0
    assert download(wanted, tmp_path).read_bytes() == body
    assert server.asked[-1] == ("/f", f"bytes={kept}-")
    assert not (tmp_path / "file.tar.gz.part").exists()


def test_mirrors_are_tried_in_order(server, tmp_path):
    wanted = archive(server, b"right" * 99, "/dead", "/wrong", "/f")
    server.files["/wrong"] = b"wrong" * 99  # as long, but not the published file
    assert download(wanted, tmp_path).read_bytes() == b"right" * 99
    assert [path for path, _ in server.asked] == ["/dead", "/wrong", "/f"]


def test_when_nothing_works_one_sentence_says_so(server, tmp_path):
    wanted = archive(server, b"right" * 99, "/dead", "/f")
    server.files["/f"] = b"wrong" * 200
    with pytest.raises(MissingError) as caught:
        download(wanted, tmp_path)
    said = str(caught.value)
    assert "/dead: Not Found" in said
    assert "more than the 495 bytes that were published" in said
    assert wanted.md5 in said
    assert "\n" not in said
    nobody = Archive("f", ("http://127.0.0.1:9/f",), 5, "0" * 32)
    with pytest.raises(MissingError, match="could not be downloaded .*refused"):
        download(nobody, tmp_path)
    assert not list(tmp_path.glob("f*")) or not (tmp_path / "f").exists()


def test_offline_is_honoured(server, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    wanted = archive(server, b"x" * 9, "/f")
    with pytest.raises(MissingError, match="downloads are switched off; get it from http"):
        download(wanted, tmp_path)
    assert server.asked == []
    (tmp_path / "file.tar.gz").write_bytes(b"x" * 9)
    assert download(wanted, tmp_path) == tmp_path / "file.tar.gz"  # nothing to download


def test_archives_cannot_write_elsewhere(server, tmp_path):
    body = packed("..", "outside.bin")
    wanted = archive(server, body, "/f", unpacks_to="set")
    with pytest.raises(MissingError, match="cannot be unpacked"):
        download(wanted, tmp_path / "data")
    assert not (tmp_path / "outside.bin").exists()
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["file.tar.gz"]
    with pytest.raises(MissingError, match="holds no folder set"):
        download(archive(server, packed("other"), "/g", unpacks_to="set"), tmp_path / "more")


def test_senseless_targets(server, tmp_path):
    (tmp_path / "file").write_text("")
    wanted = archive(server, b"x", "/f")
    with pytest.raises(UsageError, match="is a file"):
        download(wanted, tmp_path / "file")
    with pytest.raises(MissingError, match="cannot be written"):
        download(wanted, tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="data set that can be downloaded.*cifar100"):
        archive_of("cifar101")


def test_the_published_archives_belong_to_data_sets():
    assert set(ARCHIVES) <= set(names())
    for found in ARCHIVES.values():
        assert all(url.endswith(found.file) for url in found.urls)
        assert len(found.md5) == 32
    assert module.ARCHIVES["cifar100"].size == 169_001_437


@pytest.mark.parametrize("there", [[], ["a.bin"], ["b.bin", "mine.txt"]])
def test_a_folder_that_is_not_whole_is_no_success(server, tmp_path, there):
    """An empty folder is filled; what is in a folder may be the user's and is not touched."""
    wanted = replace(archive(server, packed(), "/f", unpacks_to="set"), holds=("a.bin", "b.bin"))
    (tmp_path / "set").mkdir()
    for name in there:
        (tmp_path / "set" / name).write_text("")
    if not there:
        assert download(wanted, tmp_path) == tmp_path
        assert (tmp_path / "set" / "a.bin").stat().st_size == 300_000
        return
    lacking = "b.bin" if there == ["a.bin"] else "a.bin"
    with pytest.raises(MissingError, match=rf"set is there and lacks {lacking}; move it away or complete it"):
        download(wanted, tmp_path)
    assert server.asked == []
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == there
    (tmp_path / "set" / lacking).write_text("")
    assert download(wanted, tmp_path) == tmp_path


def test_the_published_folders_hold_what_their_reader_looks_for():
    for name in ("cifar10", "cifar100"):
        assert ARCHIVES[name].holds == files_of(name)
        assert ARCHIVES[name].unpacks_to in LAYOUTS["cifar_python"].looks_for(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"x" * 9, "it has 9 of 495 bytes"), (b"wrong" * 99, "its md5 is [0-9a-f]{32}, not [0-9a-f]{32}")],
)
def test_offline_a_damaged_archive_is_named(server, tmp_path, monkeypatch, content, said):
    monkeypatch.setenv(VARIABLE, "1")
    (tmp_path / "file.tar.gz").write_bytes(content)
    wanted = archive(server, b"right" * 99, "/f")
    with pytest.raises(
        MissingError, match=rf"file.tar.gz is not the published file: {said}; get it from http"
    ):
        download(wanted, tmp_path)
    assert (tmp_path / "file.tar.gz").read_bytes() == content


def test_a_server_that_talks_nonsense_is_passed_over(server, tmp_path, monkeypatch):
    wanted = archive(server, b"right" * 99, "/nonsense", "/f")
    opened = module.urllib.request.urlopen

    def answer(request, timeout):
        if request.full_url.endswith("/nonsense"):
            raise http.client.BadStatusLine("SSH-2.0\r\n")
        return opened(request, timeout=timeout)

    monkeypatch.setattr(module.urllib.request, "urlopen", answer)
    assert download(wanted, tmp_path).read_bytes() == b"right" * 99


@pytest.mark.parametrize("dangling", [True, False])
def test_links_are_not_written_through(server, tmp_path, dangling):
    target = tmp_path / "elsewhere"
    if not dangling:
        target.write_bytes(b"mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file.tar.gz.part").symlink_to(target)
    with pytest.raises(MissingError, match="part is in the way: it is no regular file"):
        download(archive(server, b"right" * 99, "/f"), tmp_path / "data")
    assert target.exists() is not dangling
    assert dangling or target.read_bytes() == b"mine"
    # And where the link comes after the look.
    with (
        pytest.raises(OSError, match="symbolic links"),
        open(tmp_path / "data" / "file.tar.gz.part", "wb", opener=module._no_link),
    ):
        pass


def test_two_downloads_of_one_file_are_one_too_many(server, tmp_path, own_cache):
    wanted = archive(server, b"right" * 99, "/f")
    with (
        module._alone(tmp_path / "file.tar.gz"),
        pytest.raises(MissingError, match="another process is downloading .*file.tar.gz"),
    ):
        download(wanted, tmp_path)
    assert server.asked == []
    assert download(wanted, tmp_path).read_bytes() == b"right" * 99
    assert [p.name for p in tmp_path.iterdir() if p != own_cache] == ["file.tar.gz"]
