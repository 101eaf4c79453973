"""A web service of one program: send it an image, and it answers with the labels as a PNG.

    python serve.py cells.stablehlo.zip --port=8000
    curl --data-binary @image.png http://127.0.0.1:8000/labels --output labels.png

An image that cannot be labelled is answered by status 422 and a sentence. SIGTERM and Ctrl-C
stop the service once all that has been asked is answered.
"""

from __future__ import annotations

import argparse
import io
import json
import select
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import images
import loader
from PIL import Image

MOST_BYTES, MOST_PIXELS = 64 << 20, 64_000_000
"""Of an image; Pillow refuses one that claims more than twice the pixels."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request, in a thread of its own."""

    program: loader.Program
    computing = threading.Lock()  # one image has all cores, and memory has a limit
    timeout = 30  # seconds in which a client has to send something

    def do_GET(self) -> None:
        """Says what the program takes and answers; a check that the service is up."""
        self.answer(200, "application/json", json.dumps(self.program.about).encode())

    def do_POST(self) -> None:
        """Labels an image."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/labels":
            return self.refuse(404, "Send an image to /labels.")
        if not (length.isascii() and length.isdigit()):
            return self.refuse(411, "The header Content-Length is missing.")
        if int(length) > MOST_BYTES:
            return self.refuse(413, f"At most {MOST_BYTES:,} bytes are taken.")
        raw = self.rfile.read(int(length))
        try:
            image = images.read_image(io.BytesIO(raw), self.program)
            with self.computing:
                labels = self.program(image)
        except (images.ImageError, loader.ProgramError) as error:
            return self.refuse(422, str(error))
        return self.answer(200, "image/png", images.labels_as_png(labels, self.program))

    def refuse(self, status: int, sentence: str) -> None:
        """Answers with a sentence."""
        self.answer(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())

    def answer(self, status: int, kind: str, content: bytes) -> None:
        """Sends an answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """A server that loses no request when it is stopped."""

    daemon_threads = False  # `server_close` waits for those that are being answered
    request_queue_size = 128

    def run(self) -> None:
        """Answers until `shutdown`, and then what has been asked until then."""
        self.serve_forever(poll_interval=0.1)
        for _ in range(self.request_queue_size):  # those that wait to be accepted
            if select.select([self], [], [], 0)[0]:
                self.handle_request()
        self.server_close()


def make_server(program: loader.Program, host: str, port: int) -> Server:
    """Makes the service, which listens from now on.

    Args:
      program: what answers.
      host: address to listen at; "0.0.0.0" is all of this machine.
      port: 0 chooses a free one, `server_port`.

    Returns:
      The server, to be run.
    """
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    return Server((host, port), type("Handler", (Handler,), {"program": program}))


def main() -> None:
    """Serves until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--batch_size", type=int, default=1)
    given = parser.parse_args()
    try:
        program = loader.load(given.program, batch_size=given.batch_size)
        server = make_server(program, given.host, given.port)
    except (loader.ProgramError, OSError, OverflowError) as error:
        raise SystemExit(f"The service cannot start: {error}") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, lambda *_: threading.Thread(target=server.shutdown).start()
        )
    print(f"http://{given.host}:{server.server_port}/labels", flush=True)
    server.run()


if __name__ == "__main__":
    main()
