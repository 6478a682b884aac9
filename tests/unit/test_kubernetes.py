"""The manifests as overlays compose them: valid by the schemas of their kinds, restricted, and true to the product."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

import kiket_worker
from kiket_worker.contract import QUEUE_REQUESTS, QUEUE_SCHEDULED
from kiket_worker.ledger import connections
from kiket_worker.ledger.database import statement
from kiket_worker.settings import Settings
from tests.support import deployments, dockerfile, kustomization
from tests.support.kustomization import Object, compose, pods
from tests.support.pod_security import violations

ROOT = Path(kiket_worker.__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS = ROOT / "tests" / "schemas"
# The oldest version that is promised.
KUBERNETES = "1.28"
CUSTOM = {
    "ScaledObject": "keda-scaledobject",
    "TriggerAuthentication": "keda-triggerauthentication",
    "PodMonitor": "monitoring-podmonitor",
}

COMPOSED = {name: compose(FOLDER / name) for name in ("base", "overlays/small", "overlays/cluster")}
OBJECTS = [
    pytest.param(one, id=f"{name}-{one['kind']}-{one['metadata']['name']}")
    for name, objects in COMPOSED.items()
    for one in objects
]
PODS = [
    pytest.param(template, id=f"{name}-{of}")
    for name, objects in COMPOSED.items()
    for of, template in pods(objects).items()
]
CLUSTER = COMPOSED["overlays/cluster"]


def one_of(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def faults_of(one: Object) -> list[str]:
    if one["kind"] in CUSTOM:
        schema = json.loads((SCHEMAS / f"{CUSTOM[one['kind']]}.json").read_text())
        return [fault.message for fault in Draft202012Validator(schema).iter_errors(one)]
    try:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as fault:
        return [fault.message]
    return []


def environment_of(objects: list[Object], container: Object) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= one_of(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {one["name"]: one["value"] for one in container.get("env", [])}


@pytest.mark.parametrize("one", OBJECTS)
def test_each_object_is_valid(one: Object) -> None:
    assert faults_of(one) == []


@pytest.mark.parametrize(
    ("kind", "name", "where", "wrong"),
    [
        ("Deployment", "kiket-worker", ("spec", "template", "spec"), {"terminationGracePeriod": 3}),
        ("Deployment", "kiket-worker", ("spec",), {"replicas": "two"}),
        ("ScaledObject", "kiket-worker", ("spec",), {"maxReplicas": 3}),
        ("PodMonitor", "kiket-worker", ("spec",), {"selector": "all"}),
        ("NetworkPolicy", "to-postgres", ("spec",), {"egres": []}),
    ],
)
def test_the_schemas_see_what_is_wrong(kind: str, name: str, where: tuple[str, ...], wrong: Object) -> None:
    broken = json.loads(json.dumps(one_of(CLUSTER, kind, name)))
    place = broken
    for part in where:
        place = place[part]
    place |= wrong
    assert faults_of(broken)


@pytest.mark.parametrize("name", COMPOSED)
def test_kubectl_composes_the_same(name: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", FOLDER / name], capture_output=True, text=True, check=True, timeout=60
    )
    theirs = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    assert {(one["kind"], one["metadata"]["name"]): one for one in COMPOSED[name]} == theirs


def test_a_patch_that_meets_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: ConfigMap\nmetadata: {name: a}\n")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [a.yaml]\npatches: [{target: {kind: ConfigMap, name: b}, patch: '[]'}]"
    )
    with pytest.raises(ValueError, match="meets nothing"):
        kustomization.compose(tmp_path)


@pytest.mark.parametrize("template", PODS)
def test_each_pod_keeps_to_the_restricted_profile(template: Object) -> None:
    assert list(violations(template["spec"])) == []
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"/tmp"}
    assert template["spec"]["securityContext"]["runAsUser"] == int(
        dockerfile.stages(dockerfile.DOCKERFILE.read_text())[-1].last("USER").text.split(":")[0]
    )


@pytest.mark.parametrize(
    ("place", "wrong", "fault"),
    [
        ("pod", {"hostNetwork": True}, "hostNetwork"),
        ("pod", {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "volume"),
        ("pod", {"securityContext": {"runAsNonRoot": True}}, "seccompProfile"),
        ("container", {"securityContext": {}}, "allowPrivilegeEscalation"),
        ("container", {"ports": [{"containerPort": 80, "hostPort": 80}]}, "hostPort"),
    ],
)
def test_the_check_of_the_profile_sees_what_is_forbidden(place: str, wrong: Object, fault: str) -> None:
    spec = json.loads(json.dumps(pods(CLUSTER)["Deployment/kiket-worker"]["spec"]))
    (spec if place == "pod" else spec["containers"][0]).update(wrong)
    assert any(fault in found for found in violations(spec))


@pytest.mark.parametrize("template", PODS)
def test_no_pod_has_a_token_or_the_variables_of_services(template: Object) -> None:
    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["spec"]["enableServiceLinks"] is False
    accounts = [one for one in CLUSTER if one["kind"] == "ServiceAccount"]
    assert all(one["automountServiceAccountToken"] is False for one in accounts)
    assert template["spec"]["serviceAccountName"] in {one["metadata"]["name"] for one in accounts}


@pytest.mark.parametrize("name", COMPOSED)
def test_commands_and_variables_are_those_of_the_product(name: str) -> None:
    for of, template in pods(COMPOSED[name]).items():
        (container,) = template["spec"]["containers"]
        assert deployments.unknown_arguments(container["args"]) == [], of
        assert deployments.unknown_variables(set(environment_of(COMPOSED[name], container))) == set(), of


def test_the_settings_that_pods_get_are_complete() -> None:
    for of, template in pods(CLUSTER).items():
        (container,) = template["spec"]["containers"]
        environment = environment_of(CLUSTER, container)
        mounted = {f"/run/secrets/kiket/{item['path']}" for secret in secrets_of(template) for item in secret["items"]}
        files = {value for key, value in environment.items() if key.endswith("_FILE")}
        assert files == mounted, of
        given = {key.removesuffix("_FILE") for key in environment}
        assert {"DATABASE_URL", "RABBITMQ_URL", "ARTIFACTS_URL"} <= given, of
        assert not any(re.search(r"://[^/]*:[^/]*@", value) for value in environment.values())


def secrets_of(template: Object) -> list[Object]:
    """The secrets that a pod's volumes have, each as a projected volume names it."""
    volumes = template["spec"]["volumes"]
    whole = [volume["secret"] for volume in volumes if "secret" in volume]
    projected = [volume["projected"]["sources"] for volume in volumes if "projected" in volume]
    return [{"name": one["secretName"], "items": one["items"]} for one in whole] + [
        source["secret"] for sources in projected for source in sources
    ]


def test_pods_start_without_credentials_of_the_store_where_they_have_an_identity() -> None:
    for of in ("Deployment/kiket-worker", "Deployment/kiket-console"):
        optional = {
            item["key"]
            for secret in secrets_of(pods(CLUSTER)[of])
            if secret.get("optional")
            for item in secret["items"]
        }
        assert optional == {"aws-credentials"}, of


@pytest.mark.parametrize("name", COMPOSED)
def test_a_refresh_may_end_before_its_worker_is_killed(name: str) -> None:
    template = pods(COMPOSED[name])["Deployment/kiket-worker"]
    (container,) = template["spec"]["containers"]
    environment = {
        key: value for key, value in environment_of(COMPOSED[name], container).items() if not key.endswith("_FILE")
    }
    settings = Settings.model_validate(environment | {"DATABASE_URL": "postgresql://x/y", "RABBITMQ_URL": "memory://"})
    assert settings.grace_seconds >= settings.run_time_limit_seconds
    # What follows a refresh: artifacts and usage, and handing back.
    assert template["spec"]["terminationGracePeriodSeconds"] >= settings.grace_seconds + 30
    assert template["spec"]["terminationGracePeriodSeconds"] <= settings.grace_seconds + 300


def test_workers_begin_with_two_replicas_of_half_a_core_and_a_gibibyte() -> None:
    for name in ("base", "overlays/small"):
        assert one_of(COMPOSED[name], "Deployment", "kiket-worker")["spec"]["replicas"] == 2
    (container,) = pods(CLUSTER)["Deployment/kiket-worker"]["spec"]["containers"]
    requests = container["resources"]["requests"]
    assert (requests["cpu"], requests["memory"]) == ("500m", "1Gi")
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert one_of(CLUSTER, "Deployment", "kiket-ticker")["spec"]["replicas"] == 2
    assert one_of(CLUSTER, "ScaledObject", "kiket-worker")["spec"]["minReplicaCount"] == 2


@pytest.mark.parametrize("name", COMPOSED)
def test_probes_and_monitors_name_ports_that_there_are(name: str) -> None:
    for of, template in pods(COMPOSED[name]).items():
        (container,) = template["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        probes = [
            container[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe") if probe in container
        ]
        assert len(probes) == (0 if of.startswith("Job/") else 3), of
        assert {probe["httpGet"]["port"] for probe in probes} <= set(ports)
        if address := environment_of(COMPOSED[name], container).get("KIKET_METRICS_ADDRESS"):
            assert address == f":{ports['metrics']}"
    for monitor in (one for one in COMPOSED[name] if one["kind"] == "PodMonitor"):
        assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]


def test_each_deployment_may_lose_one_pod_at_a_time_and_selects_its_own() -> None:
    for deployment in (one for one in CLUSTER if one["kind"] == "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        budget = one_of(CLUSTER, "PodDisruptionBudget", deployment["metadata"]["name"])
        assert budget["spec"]["selector"]["matchLabels"] == labels
        assert budget["spec"]["maxUnavailable"] == 1
    selector = one_of(CLUSTER, "Service", "kiket-console")["spec"]["selector"]
    assert selector == pods(CLUSTER)["Deployment/kiket-console"]["metadata"]["labels"]


def allowed(component: str, direction: str) -> set[tuple[str, int]]:
    """Which policies let a component's pods talk, and on which ports."""
    found = set()
    for policy in (one for one in CLUSTER if one["kind"] == "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        labels = {"app.kubernetes.io/name": "kiket-worker", "app.kubernetes.io/component": component}
        meets = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
            labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
        )
        if meets:
            for rule in policy["spec"].get(direction, []):
                found |= {(policy["metadata"]["name"], port["port"]) for port in rule["ports"]}
    return found


def in_namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def to_pods(label: str, value: str) -> Object:
    return {"podSelector": {"matchLabels": {label: value}}}


def test_the_network_lets_through_what_each_needs_and_nothing_else() -> None:
    deny = one_of(CLUSTER, "NetworkPolicy", "default-deny")["spec"]
    ours = {"app.kubernetes.io/name": "kiket-worker"}
    assert deny == {"podSelector": {"matchLabels": ours}, "policyTypes": ["Ingress", "Egress"]}
    for policy in (one for one in CLUSTER if one["kind"] == "NetworkPolicy"):
        selected = policy["spec"]["podSelector"]["matchLabels"]
        assert ours.items() <= selected.items(), "others in the namespace are not ours to cut off"
    names, postgres = ("names", 53), ("to-postgres", 5432)
    queue, store = {("to-rabbitmq", 5672), ("to-rabbitmq", 5671)}, ("to-store", 443)
    assert allowed("migrate", "egress") == {names, postgres}
    assert allowed("ticker", "egress") == {names, postgres, *queue}
    assert allowed("worker", "egress") == allowed("console", "egress") == {names, postgres, *queue, store}
    assert allowed("migrate", "ingress") == set()
    assert allowed("ticker", "ingress") == allowed("worker", "ingress") == {("metrics", 9464)}
    assert allowed("console", "ingress") == {("console", 8080)}


PEERS = {
    "names": [in_namespace("kube-system") | to_pods("k8s-app", "kube-dns")],
    "to-postgres": [{"namespaceSelector": {}} | to_pods("cnpg.io/cluster", "kiket-db")],
    "to-rabbitmq": [{"namespaceSelector": {}} | to_pods("app.kubernetes.io/name", "kiket-rabbitmq")],
    # Whatever is not the cluster's own, nor the machine's that tells credentials (169.254.169.254).
    "to-store": [
        {
            "ipBlock": {
                "cidr": "0.0.0.0/0",
                "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
            }
        }
    ],
    "metrics": [in_namespace("monitoring")],
    "console": [in_namespace("ingress-nginx")],
}


def test_each_policy_names_who_is_at_the_other_end() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in CLUSTER if one["kind"] == "NetworkPolicy"}
    assert policies.keys() == PEERS.keys() | {"default-deny"}
    for name, peers in PEERS.items():
        (rule,) = policies[name].get("egress", []) + policies[name].get("ingress", [])
        assert rule.get("to", rule.get("from")) == peers, name
        assert {port["protocol"] for port in rule["ports"]} <= ({"UDP", "TCP"} if name == "names" else {"TCP"})


@pytest.mark.parametrize("objects", COMPOSED.values(), ids=COMPOSED)
def test_the_namespace_refuses_pods_that_are_not_restricted(objects: list[Object]) -> None:
    (namespace,) = (one for one in objects if one["kind"] == "Namespace")
    for mode in ("enforce", "warn", "audit"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_workers_are_scaled_by_the_queues_and_by_the_ledgers_own_query() -> None:
    scaled = one_of(CLUSTER, "ScaledObject", "kiket-worker")["spec"]
    assert scaled["scaleTargetRef"] == {"name": "kiket-worker"}
    assert 1 <= scaled["minReplicaCount"] < scaled["maxReplicaCount"], "none would let the first request wait for one"
    assert "replicas" not in one_of(CLUSTER, "Deployment", "kiket-worker")["spec"], "each apply would put it back"
    queues = {one["metadata"].get("queueName") for one in scaled["triggers"] if one["type"] == "rabbitmq"}
    assert queues == {QUEUE_REQUESTS, QUEUE_SCHEDULED}
    (ledger,) = (one for one in scaled["triggers"] if one["type"] == "postgresql")
    text = statement("due_backlog").decode()
    assert without_comments(ledger["metadata"]["query"]) == without_comments(text)
    for trigger in scaled["triggers"]:
        assert trigger["metricType"] == "AverageValue", "the fallback knows no other"
        if trigger["type"] == "rabbitmq":
            assert trigger["metadata"]["mode"] == "QueueLength"
        assert one_of(CLUSTER, "TriggerAuthentication", trigger["authenticationRef"]["name"])


def test_the_page_says_how_many_connections_the_most_workers_need() -> None:
    (worker,) = pods(CLUSTER)["Deployment/kiket-worker"]["spec"]["containers"]
    threads = int(environment_of(CLUSTER, worker)["KIKET_CONCURRENCY"])
    workers = one_of(CLUSTER, "ScaledObject", "kiket-worker")["spec"]["maxReplicaCount"]
    tickers, consoles = (
        one_of(CLUSTER, "Deployment", f"kiket-{name}")["spec"]["replicas"] for name in ("ticker", "console")
    )
    needed = sum(
        connections.of_an_installation(workers=workers, tickers=tickers, consoles=consoles, concurrency=threads)
    )
    (said,) = re.findall(r"and all else, need (\d+)", (ROOT / "docs" / "deployment.md").read_text())
    assert needed <= int(said) < needed + 100


def without_comments(query: str) -> str:
    return " ".join(" ".join(line.partition("--")[0] for line in query.splitlines()).split())


def test_the_page_names_every_secret_that_is_read() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    named = {secret["name"] for template in pods(CLUSTER).values() for secret in secrets_of(template)} | {
        target["name"]
        for one in CLUSTER
        if one["kind"] == "TriggerAuthentication"
        for target in one["spec"]["secretTargetRef"]
    }
    assert named == {"kiket-worker", "kiket-migrations", "kiket-metrics"}
    assert [name for name in named if f"`{name}`" not in page] == []
