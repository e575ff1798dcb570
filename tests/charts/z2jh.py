"""The member's chart with what it depends on: the chart of zero-to-jupyterhub, or a stand-in where there is none.

``MANYBINDER_TEST_Z2JH_CHART`` names the archive of the real one.
"""

import os
import shutil
from pathlib import Path

import yaml

from tests.charts.helmkit import CHARTS

#: What the member's chart asks of the other's templates and objects.  As there, the names follow fullnameOverride,
#: which a parent chart finds below the chart's name.
_HELPERS = """\
{{- define "jupyterhub.hub.fullname" -}}
{{- $values := ne .Chart.Name "jupyterhub" | ternary .Values.jupyterhub .Values -}}
{{- with $values.fullnameOverride }}{{ . }}-{{ end }}hub
{{- end -}}
{{- define "jupyterhub.priority.fullname" -}}
{{- $values := ne .Chart.Name "jupyterhub" | ternary .Values.jupyterhub .Values -}}
{{- $values.fullnameOverride | default (printf "%s-default-priority" .Release.Name) -}}
{{- end -}}
"""
_OBJECTS = """\
apiVersion: v1
kind: Secret
metadata: {name: {{ include "jupyterhub.hub.fullname" . }}}
data:
  {{- range $name, $service := .Values.hub.services }}
  hub.services.{{ $name }}.apiToken: {{ "token" | b64enc }}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata: {name: {{ include "jupyterhub.hub.fullname" . }}}
spec:
  selector: {app.kubernetes.io/name: jupyterhub, app.kubernetes.io/component: hub}
  ports: [{name: hub, port: 8081, targetPort: http}]
{{- if ((.Values.scheduling).podPriority).enabled }}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: {{ include "jupyterhub.priority.fullname" . }}}
value: 0
globalDefault: false
{{- end }}
"""


def member_chart(directory: Path) -> Path:
    """A copy of the chart, complete."""
    chart = directory / "member"
    shutil.copytree(CHARTS / "member", chart, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    charts = chart / "charts"
    charts.mkdir()
    if given := os.environ.get("MANYBINDER_TEST_Z2JH_CHART"):
        shutil.copy(given, charts)
        return chart
    (dependency,) = yaml.safe_load((chart / "Chart.yaml").read_text())["dependencies"]
    stand_in = charts / "jupyterhub"
    (stand_in / "templates").mkdir(parents=True)
    about = {"apiVersion": "v2", "name": dependency["name"], "version": dependency["version"]}
    (stand_in / "Chart.yaml").write_text(yaml.safe_dump(about))
    (stand_in / "values.yaml").write_text('fullnameOverride: ""\nhub: {baseUrl: /}\n')
    (stand_in / "values.schema.json").write_text('{"type": "object"}\n')
    (stand_in / "templates" / "_helpers.tpl").write_text(_HELPERS)
    (stand_in / "templates" / "hub.yaml").write_text(_OBJECTS)
    return chart
