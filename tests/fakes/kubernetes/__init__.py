"""A Kubernetes API server over real HTTP, as far as members use one, with faults; and a kubelet that runs pods here.

What is answered follows the API's documentation ("Kubernetes API Concepts", the API reference) and, where that is
silent, the apiserver's and kubelet's own source.
"""

from tests.fakes.kubernetes.certificates import certificate
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.kubernetes.server import FakeKubernetes
from tests.fakes.kubernetes.shapes import node, quota

__all__ = ["FakeKubernetes", "Kubelet", "certificate", "node", "quota"]
