"""The restricted profile of Kubernetes' Pod Security Standards (1.28), rule by rule as its documentation lists them."""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
_SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
}
_SELINUX = {"", "container_t", "container_init_t", "container_kvm_t"}


def violations(spec: dict[str, Any]) -> Iterator[str]:
    """What the spec of a pod has that the profile forbids, or lacks that it asks for."""
    pod = spec.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield name
    for volume in spec.get("volumes", []):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"volume {volume}"
    if {one["name"] for one in pod.get("sysctls", [])} - _SYSCTLS:
        yield "sysctls"
    containers = [*spec["containers"], *spec.get("initContainers", []), *spec.get("ephemeralContainers", [])]
    for container in containers:
        own = container.get("securityContext", {})
        for fault in _of_container(pod, own):
            yield f"{container['name']}: {fault}"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{container['name']}: hostPort"


def _of_container(pod: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    both = pod | own
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities are not dropped"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if 0 in {pod.get("runAsUser"), own.get("runAsUser")}:
        yield "runAsUser"
    if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    for context in (pod, own):
        labels = context.get("seLinuxOptions", {})
        if labels.get("type", "") not in _SELINUX or labels.keys() & {"user", "role"}:
            yield "seLinuxOptions"
        if context.get("windowsOptions", {}).get("hostProcess"):
            yield "hostProcess"
        if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in {"RuntimeDefault", "Localhost"}:
            yield "appArmorProfile"
