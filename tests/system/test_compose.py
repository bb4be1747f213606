"""docker-compose.yml and the image, as far as they can be looked at without a container engine."""
import json
import re
import subprocess
import sys
import zipfile

import jsonschema
import pytest
import yaml

from feedmill import BUILD, ROOT

pytestmark = pytest.mark.once

SCHEMA = "docker-compose==1.29.2"  # the wheel carries the compose specification's schema
OURS = {"gateway", "migrate", "topics", "ctl"}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def workers():
    listed = subprocess.run([BUILD / "feed-worker", "--list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


@pytest.fixture(scope="module")
def schema():
    folder = ROOT / ".stack" / "download" / SCHEMA.replace("==", "-")
    if not list(folder.glob("*.whl")):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, SCHEMA], check=True, timeout=120)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return json.loads(wheel.read("compose/config/compose_spec.json"))


def is_ours(service):
    return service.get("image") == "feedmill"


def test_file_is_as_the_specification_has_it(compose, schema):
    later = {"name"}  # came into the specification after this copy of its schema
    errors = list(jsonschema.Draft7Validator(schema).iter_errors({key: value for key, value in compose.items() if key not in later}))
    assert not errors, "\n".join(f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in errors)


def test_schema_finds_what_is_wrong(compose, schema):
    wrong = {"services": {"fanout": {**compose["services"]["fanout"], "helthcheck": {}}}}
    assert not jsonschema.Draft7Validator(schema).is_valid(wrong)


def test_one_service_for_each_worker(services, workers):
    commands = {tuple(service["command"]) for service in services.values() if is_ours(service) and service["command"][0] == "feed-worker"}
    assert commands == {("feed-worker", name) for name in workers}
    assert {name for name, service in services.items() if is_ours(service)} == OURS | set(workers)
    for name in workers:
        assert services[name]["command"] == ["feed-worker", name]


def test_replicas_of_a_worker_do_not_meet(services, workers):
    for name in workers:
        assert not set(services[name]) & {"container_name", "ports", "hostname", "volumes", "mac_address", "networks"}, name
    assert not [name for name, service in services.items() if "container_name" in service]


def test_programs_have_nothing_they_do_not_need(services):
    for name, service in services.items():
        if not is_ours(service):
            continue
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"] and "privileged" not in service and "user" not in service, name
        assert service["pids_limit"] > 0 and service["mem_limit"] and service["tmpfs"], name
        assert "volumes" not in service, name


def test_start_order(services, workers):
    for name in ["gateway", *workers]:
        assert services[name]["depends_on"] == {once: {"condition": "service_completed_successfully"} for once in ("migrate", "topics")}
        assert services[name]["healthcheck"]["test"][:3] == ["CMD", "feedctl", "health"]
    for once in ("migrate", "topics"):
        assert services[once]["restart"] == "no" and services[once]["command"] == ["feedctl", once]
        for server, how in services[once]["depends_on"].items():
            assert how == {"condition": "service_healthy"} and services[server]["healthcheck"]["test"]


def test_data_of_servers_stays(compose, services):
    for name, service in services.items():
        if is_ours(service):
            continue
        assert re.fullmatch(r"[a-z/]+:\d[\w.]*", service["image"]), f"{name}: {service['image']} has no version"
        volume, _, path = service["volumes"][0].partition(":")
        assert volume in compose["volumes"] and path.startswith("/"), name


def test_settings_are_known(compose, services):
    """Each variable is a setting's; with all of them the settings are right."""
    for name, service in services.items():
        if not is_ours(service):
            continue
        settings = {variable: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for variable, value in service["environment"].items()}
        done = subprocess.run([BUILD / "feedctl", "config", "show"], env=settings, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        for variable, value in settings.items():
            assert "PASSWORD" in variable or "@" in value or variable == "FEEDMILL_REDIS_URL" or f'= "{value}";' in done.stdout, f"{name}: {variable}"


def dockerfile():
    lines = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]


def test_context_has_all_that_the_build_reads(services):
    assert (ROOT / services["gateway"]["build"]["dockerfile"]).exists()
    assert ["COPY", ". ."] in dockerfile()
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert kept and all((ROOT / path).exists() for path in kept)
    makefile = (ROOT / "Makefile").read_text()
    rules = makefile[makefile.index("\ninstall-programs:"):]
    named = set(re.findall(r"\b(?:config|sql)/[\w./]*", rules[:rules.index("\n\n")]))
    named |= {layer for layer in ("common", "api-gateway", "workers", "ctl") if (ROOT / layer).is_dir()}
    assert named and {path.split("/")[0] for path in named} <= set(kept), "what the build reads is in the context"


def test_image_runs_as_nobody_special_and_has_no_compiler(workers):
    steps = dockerfile()
    last = max(i for i, step in enumerate(steps) if step[0] == "FROM")
    runtime = steps[last:]
    assert [step for step in runtime if step[0] == "USER"][-1][1] not in ("root", "0")
    installed = " ".join(step[1] for step in runtime if step[0] == "RUN")
    assert not re.search(r"\b(gcc|make|npm|\S+-dev)\b", installed)
    assert [step[1] for step in runtime if step[0] == "ENV" and "0.0.0.0:8081" in step[1]], "the port that health checks ask"
