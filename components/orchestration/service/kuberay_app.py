"""The champion as a Ray Serve application by name, for what deploys by configuration: KubeRay's RayService (deploy/ray-service.yaml), `serve run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.core.errors import EnvironmentFault, InputError
from components.orchestration.project import root

if TYPE_CHECKING:
    from ray.serve import Application

_ALL_INTERFACES = "0.0.0.0"  # noqa: S104 (where ray-service.yaml listens)


def application(args: Mapping[str, Any]) -> Application:
    """Build it; Ray Serve calls this on one node and starts replicas that read the bundle below data/, which all nodes must see.

    Args:
        args: `pipeline`, and `version`: the champion's number, changed in the configuration to move traffic after a release; null: whoever is champion now.

    Raises:
        InputError: no champion, or another version than it: only a release says what is served.
        EnvironmentFault: no answer from the registry, or no API key.
    """
    from components.orchestration.project import keys_file
    from components.orchestration.service.registry_watch import Home
    from components.orchestration.service.service import released
    from components.serving.http.api_keys import KEY_VARIABLE, Keyring
    from components.serving.replicas.deploy import application, listening_on

    params, leading = released(root(), str(args.get("pipeline", "default")))
    wanted = args.get("version")
    if wanted is not None and int(wanted) != leading.number:
        raise InputError(
            f"version {wanted} is not the champion, which is {leading.number}",
            where="args.version",
            remedy="release it first: gristmill review approve, or gristmill rollback",
        )
    keys = Keyring.from_environment(keys_file(root()))
    if not keys.wanted:
        raise EnvironmentFault(
            "no API key is set, and other machines reach this service",
            where="env",
            remedy=f"set {KEY_VARIABLE} from a secret",
        )
    settings: Any = params.sections["serve"]
    first = Home(root(), params.name, settings).wait_for(leading, preflight=False)
    # probes of Kubernetes name the address of a pod
    return application(first, None, listening_on(settings, _ALL_INTERFACES), keys)
