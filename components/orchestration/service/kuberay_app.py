"""The champion as a Ray Serve application, for deployments by configuration.

Examples are KubeRay's RayService (deploy/ray-service.yaml) and `serve run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.core.errors import EnvironmentFault, InputError
from components.orchestration.project import root

if TYPE_CHECKING:
    from ray.serve import Application

# The address on which ray-service.yaml listens.
_ALL_INTERFACES = "0.0.0.0"  # noqa: S104


def application(args: Mapping[str, Any]) -> Application:
    """Build the application.

    Ray Serve calls this on one node. The replicas read the bundle below data/, which all nodes must
    share.

    Args:
        args: `pipeline`, and `version`: the champion's number, which a person changes in the
            configuration to serve a new release; null: the present champion.

    Raises:
        InputError: there is no champion, or it is another version. Only a release changes the
            version that is served.
        EnvironmentFault: no answer from the registry, or no API key.
    """
    from components.orchestration.project import keys_file
    from components.orchestration.service.registry_watch import Home
    from components.orchestration.service.service import released
    from components.serving.http.keyring import KEY_VARIABLE, Keyring
    from components.serving.replicas.deploy import application, listening_on

    params, champion = released(root(), str(args.get("pipeline", "default")))
    wanted = args.get("version")
    if wanted is not None and int(wanted) != champion.number:
        raise InputError(
            f"version {wanted} is not the champion, which is {champion.number}",
            where="args.version",
            remedy="release it first: gristmill review approve, or gristmill rollback",
        )
    keys = Keyring.from_environment(keys_file(root()))
    if not keys.required:
        raise EnvironmentFault(
            "no API key is set, and other machines reach this service",
            where="env",
            remedy=f"set {KEY_VARIABLE} from a secret",
        )
    settings: Any = params.sections["serve"]
    first = Home(root(), params.name, settings).wait_for(champion, preflight=False)
    # Probes of Kubernetes name the address of a pod.
    return application(first, None, listening_on(settings, _ALL_INTERFACES), keys)
