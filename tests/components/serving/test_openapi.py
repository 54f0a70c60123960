"""The description of the API and the API say the same: requests made from the schema, good and bad, with all of schemathesis's checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from stub import MODEL, Stub

from components.inference.predictor import Prepared
from components.serving.http.app import build_app
from components.serving.http.keyring import Key, Keyring
from components.serving.params import ServeParams

FEW = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
AUTH = {"Authorization": "Bearer s3cret"}


class Takes(Stub):
    """Finds something to read in any text: whether there is something in it is not for a schema to say."""

    def prepare(self, queries: Sequence[Any]) -> Sequence[Prepared]:
        return [Prepared({"text": query.text}, 1) for query in queries]


def described(**options: Any) -> Any:
    """The API as it describes itself."""
    app = build_app(
        Takes(),
        MODEL,
        ServeParams.model_validate(
            {"max_items": 4, "limits": {"characters": 300}, "allowed_hosts": ["testserver"]}
        ),
        **options,
    )
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=SchemathesisConfig())


FREE, KEYED = described(), described(keys=Keyring([Key.of("ann", "s3cret")]))
OPERATIONS = [
    (path, method) for path, methods in FREE.raw_schema["paths"].items() for method in methods
]


def test_the_operations_are_those_that_a_client_needs() -> None:
    assert sorted(OPERATIONS) == [
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/v1/explain", "post"),
        ("/v1/model", "get"),
        ("/v1/predict", "post"),
    ]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_it_is_as_it_describes_itself(path: str, method: str, mode: GenerationMode) -> None:
    operation = FREE[path][method]
    if mode is GenerationMode.NEGATIVE and method == "get":
        return  # nothing to get wrong: these take no parameters

    @FEW
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case: schemathesis.Case) -> None:
        case.call_and_validate()

    asked()


@pytest.mark.parametrize(("path", "method"), [("/v1/predict", "post"), ("/v1/model", "get")])
def test_it_is_with_keys_as_it_describes_itself(path: str, method: str) -> None:
    @settings(FEW, max_examples=5)
    @given(KEYED[path][method].as_strategy())
    def asked(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=AUTH)  # among the checks: another key or none is refused

    asked()
