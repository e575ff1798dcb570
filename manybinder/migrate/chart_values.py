"""Every value of BinderHub's chart and of mybinder.org's redirector, and what becomes of it.

Sources: helm-chart/binderhub (values.yaml, schema.yaml) of jupyterhub/binderhub as of commit b9fad995 (April 2026);
mybinder/values.yaml (``federationRedirect``) with images/federation-redirect/app.py of jupyterhub/mybinder.org-deploy
as of commit 95860dbc (August 2026).  A row is for a value and all below it; traits (``config``), ``extraConfig`` and
``jupyterhub`` are read elsewhere.
"""

from collections.abc import Mapping
from typing import Any

from manybinder.migrate import convert as to
from manybinder.migrate import convert_builds as builds
from manybinder.migrate.rows import Row, Several, UnfitError, decision, equivalent, none
from manybinder.migrate.secrecy import is_secret

_OWN = "charts/member has its own."
_GONE = "BinderHub's chart has given it up too."
_SOCKET = "The new engine has a socket of its own beside the old one's."
_DIRECTORY = "Two engines must not share a directory: this one gets another."


def _image(value: Any) -> dict[str, Any]:
    names = {"name": "repository", "tag": "tag", "pullPolicy": "pullPolicy"}
    found = {names[key]: str(item) for key, item in to.mapping(value).items() if key in names and item}
    if found.get("pullPolicy", "Always") not in ("Always", "IfNotPresent", "Never"):
        raise UnfitError("pullPolicy is none of Always, IfNotPresent and Never")
    return found


def _replicas(value: Any) -> Several:
    number = to.count(value)
    # A volume is one pod's.
    return Several({"replicas": number, **({"persistence.enabled": False} if number > 1 else {})})


def _resources(value: Any) -> dict[str, Any]:
    given = {key: to.mapping(item) for key, item in to.mapping(value).items() if item}
    if given.keys() - {"requests", "limits"}:
        raise UnfitError("there are requests and limits")
    return given


def _beside(value: Any) -> str:
    return f"{to.text(value).rstrip('/')}-manybinder"


def _pod_spec(value: Any) -> Several:
    known = {"priorityClassName": to.text, "affinity": to.mapping, "nodeSelector": to.labels, "tolerations": to.objects}
    spec = to.mapping(value)
    if spec.keys() - known.keys():
        raise UnfitError(f"of a pod's own fields there are {', '.join(known)}")
    return Several({name: known[name](item) for name, item in spec.items()})


def _tolerations(value: Any) -> Several:
    given = to.objects(value or [])
    return Several({"tolerations": given, "config.builder.tolerations": given} if given else {})


def _environment(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        given = {str(item.get("name")): item.get("value", item) for item in value if isinstance(item, Mapping)}
    else:
        given = to.mapping(value)
    found: list[dict[str, Any]] = []
    for name, item in given.items():
        if isinstance(item, Mapping):
            found.append({"name": name, **{key: part for key, part in item.items() if key != "name"}})
        elif is_secret(name):
            raise UnfitError(f"the value of {name} sounds secret: name a Secret (valueFrom)")
        else:
            found.append({"name": name, "value": str(item)})
    return found


def _https(value: Any) -> Several:
    https = to.mapping(value)
    if not https.get("enabled") or https.get("type", "kube-lego") != "kube-lego":
        return Several({})
    return Several({"ingress.annotations": {"kubernetes.io/tls-acme": "true"}})


def _engine(name: str, directory: str) -> dict[str, Row]:
    return {
        f"{name}.enabled": none(_GONE),
        f"{name}.initContainers": none("The engine's pods have none.", []),
        f"{name}.daemonset.image": equivalent(values=f"{name}.image", convert=_image),
        f"{name}.daemonset.extraArgs": equivalent(values=f"{name}.extraArgs", convert=to.public_texts),
        f"{name}.daemonset.lifecycle": none("The engine's pods have none.", {}),
        f"{name}.daemonset.extraVolumes": decision("The engine's pods take none: configure it by extraArgs.", []),
        f"{name}.daemonset.extraVolumeMounts": decision("The engine's pods take none: configure it by extraArgs.", []),
        f"{name}.resources": equivalent(values=f"{name}.resources", convert=_resources, silent=({},)),
        f"{name}.hostSocketDir": none(_SOCKET),
        f"{name}.hostSocketName": none(_SOCKET),
        f"{name}.{directory}": equivalent(values=f"{name}.hostLibDir", convert=_beside, says=_DIRECTORY),
    }


#: A row for each value of BinderHub's chart.
VALUES: Mapping[str, Row] = {
    "pdb": none("Of several replicas one may be away at a time: podDisruptionBudget.enabled."),
    "replicas": equivalent(values="replicas", convert=_replicas),
    "resources": equivalent(values="resources", convert=_resources, silent=({},)),
    "rbac": none("charts/member makes the rights that it lists."),
    "nodeSelector": equivalent(values="nodeSelector", convert=to.labels, silent=({},)),
    "tolerations": equivalent(values="tolerations", convert=_tolerations),
    "image": none("The image is the member's: make it (make images), and give image.repository."),
    "registry.url": equivalent("registry.url", builds.registry, values="registry.url", silent=(None, "")),
    "registry.username": equivalent("registry.username", to.text, values="registry.username", silent=(None, "")),
    "registry.password": equivalent("registry.password", values="-", file="registry-password", silent=(None, "")),
    "service.type": equivalent(values="service.type", convert=to.one_of("ClusterIP", "NodePort", "LoadBalancer")),
    "service.annotations": equivalent(values="service.annotations", convert=to.labels, silent=({},)),
    "service.labels": none("The Service has labels of its own.", {}),
    "service.nodePort": none("Kubernetes chooses the port.", None),
    "service.loadBalancerIP": decision("Most clouds take an annotation for it: service.annotations.", None),
    "extraFiles": decision("Mount what is still needed by extraVolumes and extraVolumeMounts.", {}),
    "extraPodSpec": equivalent(values="priorityClassName", convert=_pod_spec, silent=({},)),
    "deployment.labels": equivalent(values="podLabels", convert=to.labels, silent=({},)),
    "deployment.readinessProbe": none(_OWN),
    "deployment.livenessProbe": none(_OWN),
    "imageBuilderType": equivalent("builder.engine", to.one_of("host", "dind", "pink")),
    **_engine("dind", "hostLibDir"),
    "dind.storageDriver": equivalent(values="dind.storageDriver", convert=to.text),
    **_engine("pink", "hostStorageDir"),
    "imageCleaner.enabled": equivalent(values="imageCleaner.enabled", convert=to.flag),
    "imageCleaner.extraEnv": none("The cleaner takes no variables.", {}),
    "imageCleaner.image": equivalent(values="imageCleaner.image", convert=_image),
    "imageCleaner.cordon": none("Nodes are not cordoned while images are removed."),
    "imageCleaner.delay": equivalent(values="imageCleaner.delaySeconds", convert=to.count),
    "imageCleaner.imageGCThresholdType": equivalent(
        values="imageCleaner.thresholdType", convert=to.one_of("relative", "absolute")
    ),
    "imageCleaner.imageGCThresholdHigh": equivalent(values="imageCleaner.thresholdHigh", convert=to.count),
    "imageCleaner.imageGCThresholdLow": equivalent(values="imageCleaner.thresholdLow", convert=to.count),
    "imageCleaner.host": none("Docker of the nodes has no cleaner here."),
    "httpRoute.enabled": equivalent(values="httpRoute.enabled", convert=to.flag),
    "httpRoute.annotations": equivalent(values="httpRoute.annotations", convert=to.labels, silent=({},)),
    "httpRoute.hostnames": equivalent(values="httpRoute.hostnames", convert=to.texts, silent=([],)),
    "httpRoute.parentRefs": equivalent(values="httpRoute.parentRefs", convert=to.objects, silent=([],)),
    "httpRoute.filters": none("The route has none.", []),
    "httpRoute.matches": none("The route begins where `config.public_url` does."),
    "httpRoute.labels": none("The route has labels of its own.", {}),
    "ingress.enabled": equivalent(values="ingress.enabled", convert=to.flag),
    "ingress.https": equivalent(values="ingress.annotations", convert=_https),
    "ingress.hosts": equivalent(values="ingress.hosts", convert=to.texts, silent=([],)),
    "ingress.hostname": none(_GONE),
    "ingress.ingressClassName": equivalent(values="ingress.className", convert=to.text, silent=(None, "")),
    "ingress.annotations": equivalent(values="ingress.annotations", convert=to.labels, silent=({},)),
    "ingress.pathSuffix": none("Paths are prefixes.", None, ""),
    "ingress.pathType": none("Paths are prefixes.", "Prefix"),
    "ingress.tls": equivalent(values="ingress.tls", convert=to.objects, silent=([],)),
    "initContainers": none("The member's pod has none of yours.", []),
    "lifecycle": none("The member's pod ends as it is to.", {}),
    "extraVolumes": equivalent(
        values="extraVolumes", convert=to.objects, says="Make what they name in the new namespace.", silent=([],)
    ),
    "extraVolumeMounts": equivalent(values="extraVolumeMounts", convert=to.objects, silent=([],)),
    "extraEnv": equivalent(
        values="extraEnv",
        convert=_environment,
        says="The member reads none of BinderHub's variables: credentials of repository hosts are in config.providers.",
        silent=({}, []),
    ),
    "podAnnotations": equivalent(values="podAnnotations", convert=to.labels, silent=({},)),
    "hpa": none("Members are not scaled by themselves: see `replicas`."),
    "networkPolicy": decision(
        "charts/member has policies of its own: networkPolicy, jupyterhub.singleuser.networkPolicy."
    ),
    "nameOverride": none("Objects are called by the release."),
    "fullnameOverride": none("Objects are called by the release."),
    "global": none("There are no global values.", {}),
    "cors": none(_GONE, {}),
    **{name: none(_GONE) for name in ("hub", "github", "gitlab", "build", "perRepoQuota")},
    **{f"registry.{name}": none(_GONE) for name in ("enabled", "host", "authHost", "tokenUrl", "prefix")},
}


def _policy(value: Any) -> str:
    # Whatever is not rendezvous is random there.
    return "rendezvous" if value == "rendezvous" else "random"


def _within(value: Any) -> str:
    if to.number(value) <= 0:
        raise UnfitError("it is to be more than 0")
    return to.seconds(value)


_PROBES = "A member is probed each second, and comes back, slowly, as soon as it is well."
_DEPLOYMENT = "See the values of charts/gateway."

#: A row for each value of the redirector; its hosts are members.
REDIRECTOR: Mapping[str, Row] = {
    "enabled": none("There is a gateway.", True, False),
    "host": none("It is in `public_url`."),
    "check.period": none(_PROBES),
    "check.jitter": none("Waits are varied by a tenth.", 0.1),
    "check.retries": equivalent(gateway="probes.unhealthy_after", convert=to.count),
    "check.timeout": equivalent(gateway="probes.timeout", convert=_within),
    "check.failed_period": none(_PROBES),
    "load_balancer": equivalent(
        gateway="routing.policy", convert=_policy, says="The default, tiered, goes by room and by images as well."
    ),
    "pod_headroom": none("How full a member is counts anyway: before it is full others come first."),
    "host_cookie_age_hours": none("In redirect mode a visitor comes back to a member for four hours.", 4),
    "image": none(_DEPLOYMENT),
    "resources": none(_DEPLOYMENT),
    "nodeSelector": none(_DEPLOYMENT, {}),
}
