"""Made-up files for the data scripts, and scripts that are kept from the network."""

import functools
import hashlib
import http.server
import threading
from contextlib import contextmanager

from data_scripts import iwslt14, wmt14
from data_scripts.places import Documented
from mutransfer.data.pairs import PARTS
from mutransfer.data.standins.grammar import grammar_texts

REFUSED = "http://127.0.0.1:9"  # the discard port
SCRIPTS = {"iwslt14": iwslt14, "wmt14": wmt14}
GERMAN, ENGLISH = grammar_texts({"train": 150})["train"]


def put(folder, files):
    """Write texts, as they are, or lines into files of ``folder``."""
    for name, content in files.items():
        text = content if isinstance(content, str) else "".join(f"{line}\n" for line in content)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


DAMAGE = ("missing", "empty", "blank", "latin-1", "folder", "link")


def damage(path, how):
    """Spoil a text in a way of `DAMAGE`."""
    contents = {"empty": b"", "blank": b" \n" * 9, "latin-1": path.read_bytes() + "é".encode("latin-1")}
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("gone")
    elif how != "missing":
        path.write_bytes(contents[how])


def sides(names=PARTS, languages=("de", "en")):
    """The files of a corpus of 100, 6 and 4 pairs."""
    cuts = zip(names, (slice(0, 100), slice(100, 106), slice(106, 110)), strict=True)
    texts = dict(zip(languages, (GERMAN, ENGLISH), strict=True))
    return {f"{name}.{language}": text[cut] for name, cut in cuts for language, text in texts.items()}


def documented(content, head=256):
    """What would be documented of a file with this content."""
    raw = content.encode()
    return Documented(hashlib.sha256(raw[:head]).hexdigest()[:16], len(raw), hashlib.sha256(raw).hexdigest())


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; /cut breaks off, /drip never ends, /hang never begins before `enough` is set."""

    enough = threading.Event()

    def log_message(self, *args):
        pass

    def do_GET(self):
        if not self.path.startswith(("/cut", "/drip", "/hang")):
            return super().do_GET()
        if self.path.startswith("/hang"):
            self.enough.wait(3)
            return None
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(10 if self.path.startswith("/cut") else 60):
            try:
                self.wfile.write(b"x")
                self.wfile.flush()
            except OSError:
                return None
            self.enough.wait(0 if self.path.startswith("/cut") else 0.05)
        return None


@contextmanager
def served(folder):
    """The address at which ``folder`` is served on this machine."""
    Handler.enough.clear()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        Handler.enough.set()
        running.shutdown()
        running.block_on_close = False
