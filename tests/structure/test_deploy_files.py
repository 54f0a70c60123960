"""The deployment files: they parse, name what exists, run as nobody special, and hold no secret. No container is built here."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ruamel.yaml import YAML

from components.cli.main import app
from tests.structure.import_graph import ROOT

DEPLOY = ROOT / "deploy"
KUBE = [DEPLOY / "ray-cluster.yaml", DEPLOY / "ray-service.yaml"]
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY")


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe").load_all(path))


def instructions(name: str = "Dockerfile") -> list[tuple[str, str]]:
    """Word and rest of each instruction of a Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [
        (line.split(None, 1)[0], line.split(None, 1)[1])
        for line in text.replace("\\\n", " ").splitlines()
        if line.strip()
    ]


def check_command(words: list[str]) -> None:
    """Parse as gristmill would."""
    command: Any = typer.main.get_command(app)
    command.commands[words[0]].make_context("gristmill", list(words[1:]))


def pods(path: Path) -> Iterator[tuple[str, Any]]:
    """Kind of the group and pod template of each group of Ray nodes."""
    for each in documents(path):
        if each["kind"] in ("RayCluster", "RayService"):
            cluster = (
                each["spec"] if each["kind"] == "RayCluster" else each["spec"]["rayClusterConfig"]
            )
            assert (
                cluster["rayVersion"]
                == re.search(
                    r"^ray==(.*)$",
                    (ROOT / "constraints.txt").read_text(encoding="utf-8"),
                    re.MULTILINE,
                )[1]
            )  # type: ignore[index]
            for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])):
                assert group["rayStartParams"]
                yield each["kind"], group["template"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.slim"])
def test_the_image_is_built_from_files_that_exist_and_runs_a_command_that_exists(
    name: str,
) -> None:
    told = instructions(name)
    for word, rest in told:
        if word == "COPY":
            sources = [each for each in shlex.split(rest)[:-1] if not each.startswith("--")]
            assert all((ROOT / each).exists() for each in sources), rest
    entry, command = (
        next(YAML(typ="safe").load(rest) for word, rest in told if word == wanted)
        for wanted in ("ENTRYPOINT", "CMD")
    )
    assert entry == ["gristmill"]
    check_command(command)
    users = [rest for word, rest in told if word == "USER"]
    assert (
        users
        and users[-1] == "gristmill"
        and "useradd" in " ".join(rest for word, rest in told if word == "RUN")
    )


def test_the_image_of_all_roles_has_the_pipeline_and_the_slim_one_no_extra() -> None:
    extras = re.search(r"\.\[([\w,]+)\]", " ".join(rest for _, rest in instructions()))
    assert extras and "pipeline" in extras[1].split(",")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for name in extras[1].split(","))
    slim = [rest for word, rest in instructions("Dockerfile.slim") if word == "RUN"]
    assert any(rest.endswith("pip install -c constraints.txt .") for rest in slim)
    assert "[" not in "".join(slim)


def test_what_is_private_or_large_stays_out_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".git", ".venv", "data", "mlflow/mlflow.db*", "mlflow/artifacts", ".env"} <= set(
        ignored
    )


def test_dvc_works_in_the_image_without_a_git_repository(tmp_path: Path) -> None:
    from dvc.repo import Repo

    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ".git" in ignored
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_bytes((ROOT / ".dvc" / "config").read_bytes())
    for word, rest in instructions():
        if word == "RUN" and rest.endswith(".dvc/config.local"):
            subprocess.run(["sh", "-c", rest], cwd=tmp_path, check=True)
    with Repo(str(tmp_path)) as opened:
        assert opened.config["core"]["no_scm"]


def test_the_heads_of_cluster_and_service_have_services_of_different_names() -> None:
    names = [
        each["metadata"]["name"]
        for path in KUBE
        for each in documents(path)
        if each["kind"] in ("RayCluster", "RayService")
    ]
    # KubeRay names the Kubernetes service of a head NAME-head-svc for both kinds.
    assert len(names) == 2 and len(set(names)) == 2
    cluster = (DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8")
    assert f"svc/{names[0]}-head-svc" in cluster


def test_compose_holds_three_services_that_wait_for_each_other_and_listen_on_loopback() -> None:
    (told,) = documents(DEPLOY / "compose.yaml")
    assert set(told["services"]) == {"postgres", "mlflow", "serve"}
    for name, service in told["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for key, value in service["environment"].items():
            assert (
                not SECRET.search(key)
                or value is None
                or str(value).startswith(("${", "/run/secrets/"))
            ), f"{name}: {key}"
        if name != "postgres":
            assert service["user"] == "1000:1000" and service["cap_drop"] == ["ALL"]
        for mount in service["volumes"]:
            assert mount.split(":")[0] in told["volumes"]
    assert (
        told["services"]["mlflow"]["depends_on"]["postgres"]
        == told["services"]["serve"]["depends_on"]["mlflow"]
        == {"condition": "service_healthy"}
    )
    assert (
        ROOT / told["services"]["mlflow"]["entrypoint"][0].removeprefix("/gristmill/")
    ).stat().st_mode & 0o111
    check_command(told["services"]["serve"]["command"])
    build = told["services"]["serve"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()


def test_each_variable_that_must_be_set_stands_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / "example.env").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert set(re.findall(r"\$\{(\w+):\?", text)) <= set(example)
    assert not [name for name, value in example.items() if SECRET.search(name) and value]


def test_the_script_of_the_server_names_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "mlflow" / "server.sh")],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode != 0
        and "MLFLOW_BACKEND_STORE_URI: postgresql://USER@HOST/NAME" in done.stderr
        and not list(tmp_path.iterdir())
    )


@pytest.mark.parametrize("path", KUBE, ids=lambda path: path.name)
def test_ray_nodes_run_as_nobody_special_with_keys_from_a_secret(path: Path) -> None:
    found = list(pods(path))
    assert found
    for _, template in found:
        spec = template["spec"]
        assert (
            spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 1000
        )
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["image"].startswith("gristmill:") and set(container["resources"]) == {
            "requests",
            "limits",
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        secret = {each["name"]: each for each in container["env"] if SECRET.search(each["name"])}
        assert "RAY_AUTH_TOKEN" in secret and all(
            each["valueFrom"]["secretKeyRef"]["name"] == "gristmill" for each in secret.values()
        )
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in spec["volumes"]
        }


@pytest.mark.parametrize("path", KUBE, ids=lambda path: path.name)
def test_ports_of_ray_are_closed_to_other_pods(path: Path) -> None:
    told = documents(path)
    policy = next(each for each in told if each["kind"] == "NetworkPolicy")
    labels = {tuple(template["metadata"]["labels"].items()) for _, template in pods(path)}
    assert labels == {tuple(policy["spec"]["podSelector"]["matchLabels"].items())} and policy[
        "spec"
    ]["policyTypes"] == ["Ingress"]
    assert all(
        rule.get("from") or rule["ports"] == [{"port": 8000}] for rule in policy["spec"]["ingress"]
    )
    assert all(each["apiVersion"] == "ray.io/v1" for each in told if each["kind"].startswith("Ray"))


def test_the_service_names_an_application_that_exists_and_probes_that_it_answers() -> None:
    from importlib import import_module

    told = next(
        each for each in documents(DEPLOY / "ray-service.yaml") if each["kind"] == "RayService"
    )
    serve = YAML(typ="safe").load(told["spec"]["serveConfigV2"])
    (wanted,) = serve["applications"]
    module, name = wanted["import_path"].split(":")
    assert callable(getattr(import_module(module), name)) and set(wanted["args"]) == {
        "pipeline",
        "version",
    }
    routes = (ROOT / "components" / "serving" / "http" / "routes.py").read_text(
        encoding="utf-8"
    ) + (ROOT / "components" / "serving" / "http" / "app.py").read_text(encoding="utf-8")
    for _, template in pods(DEPLOY / "ray-service.yaml"):
        (container,) = template["spec"]["containers"]
        assert {"name": "serve", "containerPort": serve["http_options"]["port"]} in container[
            "ports"
        ]
        paths = {
            probe: container[probe]["httpGet"]["path"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert paths == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        } and all(f'"{path}"' in routes for path in paths.values())
        assert any(each["name"] == "GRISTMILL_API_KEY" for each in container["env"])


def test_ray_serve_reads_the_configuration() -> None:
    from ray.serve.schema import ServeDeploySchema

    told = next(
        each for each in documents(DEPLOY / "ray-service.yaml") if each["kind"] == "RayService"
    )
    read = ServeDeploySchema.model_validate(YAML(typ="safe").load(told["spec"]["serveConfigV2"]))
    assert (
        read.applications[0].import_path
        == "components.orchestration.service.kuberay_app:application"
        and read.http_options.host == "0.0.0.0"
    )
