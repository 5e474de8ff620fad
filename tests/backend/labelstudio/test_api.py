"""What is told where a request reaches no Label Studio."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backend.errors import LabelStudioError, LabelStudioUnavailable
from backend.labelstudio.client import LabelStudio

Server = Any  # conftest.py has it
COMPANY = Path(__file__).with_name("localhost.pem")  # signed by nobody else, with its key


def test_a_certificate_that_nobody_vouches_for_is_told_with_the_setting_that_trusts_it() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(COMPANY)
    with socket.create_server(("127.0.0.1", 0)) as host:

        def shake_hands() -> None:
            client, _ = host.accept()
            with client, suppress(OSError):  # the client leaves
                context.wrap_socket(client, server_side=True)

        threading.Thread(target=shake_hands, daemon=True).start()
        url = f"https://127.0.0.1:{host.getsockname()[1]}"
        with pytest.raises(LabelStudioUnavailable, match=r"not trusted .*REQUESTS_CA_BUNDLE"):
            LabelStudio(url, "token").version()


def test_https_where_only_http_is_spoken_is_told_as_such(server: Server) -> None:
    studio = LabelStudio(server.url.replace("http:", "https:"), "token")
    with pytest.raises(LabelStudioUnavailable, match="begin LABEL_STUDIO_URL with http://"):
        studio.version()


def test_what_has_no_version_is_no_label_studio_whatever_it_says(server: Server) -> None:
    server.reply("/api/version", b'{"error": "NotFound"}', status=404)
    with pytest.raises(LabelStudioError, match="not as Label Studio: check LABEL_STUDIO_URL"):
        LabelStudio(server.url, "token").version()
