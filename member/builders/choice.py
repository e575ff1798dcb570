"""The kinds of builders that there are, by the name that ``builder.kind`` gives them."""

from collections.abc import Mapping

from member.builders.base import Builder
from member.builders.container.kind import ContainerKind
from member.builders.kind import Kind
from member.builders.kubernetes.kind import KubernetesKind
from member.builders.process.kind import ProcessKind
from member.settings import MemberSettings

KINDS: Mapping[str, Kind] = {
    "process": ProcessKind(),
    "container": ContainerKind(),
    "kubernetes": KubernetesKind(),
}


def kind_of(settings: MemberSettings) -> Kind:
    """The kind that a member's settings choose."""
    return KINDS[settings.builder.kind]


def make_builder(settings: MemberSettings) -> Builder:
    """The builder that a member's settings choose, not yet started."""
    return kind_of(settings).builder(settings)
