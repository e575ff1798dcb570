"""What an operator may set of who launches at a member (``admission:``)."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from contract.addresses import counted_as, in_networks, networks
from contract.bans import Ban, make_ban
from contract.units import Duration
from servicekit.config import Section


class RateLimitSettings(Section):
    """How many launches one visitor may begin who comes directly and without a build token (from a page)."""

    launches: int = Field(default=10, ge=0)
    """So many at once; 0 = any number."""

    per: Duration = Field(default=3600.0, gt=0)
    """And so many again within this time, one by one."""

    ipv4_prefix: int = Field(default=32, ge=0, le=32)
    """So many leading bits of an IPv4 address make one visitor."""

    ipv6_prefix: int = Field(default=64, ge=0, le=128)
    """So many of an IPv6 address."""

    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose launches are not counted.  A proxy on this machine: name it in ``listen.trusted_proxies``."""

    @field_validator("exempt")
    @classmethod
    def _networks(cls, exempt: tuple[str, ...]) -> tuple[str, ...]:
        networks(exempt)
        return exempt

    def visitor(self, client: str) -> str | None:
        """As whom an address counts; ``None``: it is not counted."""
        if not self.launches or not client or in_networks(client, networks(self.exempt)):
            return None
        return counted_as(client, self.ipv4_prefix, self.ipv6_prefix)


class BanSettings(Section):
    """What may not be launched here, or by whom."""

    kind: Literal["spec", "network", "owner"]
    """Of what ``value`` is."""

    value: str
    """A regular expression for specs (``gh/org/.*``), a network (``192.0.2.0/24``), an owner (``github.com/org``)."""

    reason: str = ""
    """For operators."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        make_ban(self.kind, self.value, self.reason)
        return self


class AdmissionSettings(Section):
    """Who may launch here; in a federation the gateway's rules come first."""

    rate_limit: RateLimitSettings = RateLimitSettings()
    """How many launches one visitor may begin."""

    bans: tuple[BanSettings, ...] = ()
    """Bans of this member's operator, beside those of its federation."""

    @property
    def parsed_bans(self) -> tuple[Ban, ...]:
        """``bans``, read."""
        return tuple(make_ban(item.kind, item.value, item.reason) for item in self.bans)
