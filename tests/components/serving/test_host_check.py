"""For which Host and Origin headers the service answers, and that its answers never repeat one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from raw_asgi import send_raw
from scenario import metric

from components.serving.http.host_names import AllowedHosts
from components.serving.params import ServeParams

PATHS = ("/", "/docs", "/healthz", "/readyz", "/openapi.json", "/metrics", "/v1/model", "/none")
OWN = ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "localhost@evil.example",
    "evil.example#localhost",
    "localhost:8000:evil.example",
    "localhost:80a",
    "localhost:",
    "localhost/",
    "local host",
    "192.168.1.5",
    "0.0.0.0",
    "[::2]",
    "::1",
    "[::1",
    "127.1",
    "2130706433",
    "*",
    "",
]


def app_of(client: Any, *names: str) -> Any:
    return client(params=ServeParams(allowed_hosts=list(names)))


@pytest.mark.parametrize("host", OWN)
def test_loopback_names_are_answered_with_or_without_a_port(host: str, client: Any) -> None:
    answer = client().post("/v1/predict", json={"text": "good"}, headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_another_name_is_refused_on_every_path(host: str, client: Any) -> None:
    asked = client()
    answers = [asked.get(path, headers={"Host": host}) for path in PATHS]
    answers.append(asked.post("/v1/predict", json={"text": "good"}, headers={"Host": host}))
    assert {answer.status_code for answer in answers} == {421}
    for answer in answers:
        assert "serve.allowed_hosts" in answer.json()["detail"]
        assert "evil" not in f"{answer.text}{answer.headers}"
        assert len(answer.headers["x-request-id"]) == 32
    assert metric(asked, "gristmill_rejected_total") == len(answers)


def test_a_request_has_exactly_one_host(client: Any) -> None:
    app, own = client().app, (b"host", b"localhost")
    assert send_raw(app, "GET", "/healthz", [own]).status == 200
    for headers in ([], [own, (b"host", b"evil.example")], [own, own]):
        assert send_raw(app, "GET", "/healthz", headers).status == 400


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        ("models.example.com", ["models.example.com", "Models.Example.com:443"], ["example.com"]),
        ("*.example.com", ["a.example.com", "a.b.example.com:1"], ["example.com", "aexample.com"]),
        ("192.168.1.5", ["192.168.1.5:8000"], ["192.168.1.6"]),
        ("fd00::5", ["[fd00::5]:8000"], ["fd00::5"]),
        ("[fd00::5]", ["[fd00::5]"], ["[fd00::6]"]),
        ("0.0.0.0", ["10.1.2.3:8000", "[fd00::5]"], ["host.example"]),
        ("::", ["10.1.2.3"], ["host.example"]),
        ("*", ["host.example", "10.1.2.3"], ["a b", "a@b", ""]),
    ],
)
def test_names_of_params_are_accepted_beside_loopback(
    pattern: str, accepted: list[str], refused: list[str]
) -> None:
    allowed = AllowedHosts(ServeParams(allowed_hosts=[pattern]).allowed_hosts)
    assert all(allowed.accept_host(host) for host in [*accepted, *OWN])
    assert not any(allowed.accept_host(host) for host in refused)


@pytest.mark.parametrize(
    "pattern",
    ["http://a.example", "a.example:80", "*a.example", "a.*", "**", "*.*", "", "a b", "-a", "a."],
)
def test_a_pattern_that_could_never_match_is_a_mistake_in_params(pattern: str) -> None:
    with pytest.raises(ValidationError, match="without scheme and port"):
        ServeParams(allowed_hosts=[pattern])


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost", "http://localhost:80", 200),
        ("localhost", "https://localhost", 200),
        ("models.example.com", "https://models.example.com", 200),
        ("localhost:8000", "https://models.example.com", 200),
        ("localhost:8000", "http://localhost:3000", 403),
        ("localhost:8000", "http://127.0.0.1:8000", 403),
        ("localhost:8000", "https://evil.example", 403),
        ("localhost:8000", "http://192.168.1.5:8000", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "file://", 403),
        ("localhost:8000", "http://[", 403),
        ("localhost:8000", "chrome-extension://abc", 403),
        ("localhost:8000", "http://localhost:8000@evil.example", 403),
        ("localhost:8000", "", 403),
    ],
)
def test_pages_of_other_origins_are_refused(
    host: str, origin: str, status: int, client: Any
) -> None:
    asked = app_of(client, "models.example.com", "192.168.1.5")
    headers = {"Host": host, "Origin": origin}
    answer = asked.post("/v1/predict", json={"text": "good"}, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_that_a_page_may_send_without_asking_is_not_read(kind: str, client: Any) -> None:
    """Browsers that send no Origin are stopped by the content type: JSON needs a preflight."""
    headers = {"Host": "localhost", "Content-Type": kind}
    asked = client()
    assert asked.post("/v1/predict", content='{"text": "good"}', headers=headers).status_code == 422
    preflight = asked.options("/v1/predict", headers={"Host": "localhost"})
    assert preflight.status_code == 405
    assert metric(asked, "gristmill_predictions_total") == 0


@pytest.mark.parametrize("path", ["/v1/predict/", "/healthz/", "/docs/", "//evil.example/%2e%2e"])
def test_no_answer_redirects(path: str, client: Any) -> None:
    asked = client()
    for method in ("GET", "POST"):
        answer = asked.request(method, path, follow_redirects=False)
        assert answer.status_code in (404, 405)
        assert "location" not in answer.headers
