"""How the application is served; `tests/live` serves it."""

from backend.settings import Settings
from backend.web.server import Server


def test_nothing_but_http_is_opened_to_be_managed_by() -> None:
    options = Server(Settings()).cfg
    assert options.control_socket_disable
    assert options.address == [("127.0.0.1", 9090)]
