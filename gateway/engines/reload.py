"""Reads the settings again while the gateway runs: all errors at once, and with any of them nothing changes."""

import logging
from collections.abc import Callable
from pathlib import Path

from gateway.admin_settings import AdminSettings
from gateway.clients.guard import AddressGuard
from gateway.core.signing import SigningKeys
from gateway.core.tallies import Tallies
from gateway.engines.admission import Admission
from gateway.engines.records import Records
from gateway.engines.registry import Registry
from gateway.settings import GatewaySettings, load
from providers.registry import Providers
from servicekit.config import ConfigError

logger = logging.getLogger(__name__)

#: What takes effect at once, as do the rules of specs of providers; the rest of the settings needs a restart.
AT_ONCE = frozenset(
    {
        "members",
        "probes",
        "ejection",
        "routing",
        "launch",
        "admission",
        "admin",
        "joining",
        "signing_key",
        "other_signing_key",
    }
)


class Reload:
    """Call it to go by what the settings' file says by now; never raises."""

    def __init__(
        self,
        path: Path,
        settings: GatewaySettings,
        registry: Registry,
        keys: SigningKeys,
        guard: AddressGuard,
        records: Records,
        admission: Admission,
        configure_operators: Callable[[AdminSettings], None],
        build_token_secrets: dict[str, str],
        tallies: Tallies,
        providers: Providers,
    ) -> None:
        self._path, self._started_with = path, settings
        self._registry, self._keys, self._guard, self._tallies = registry, keys, guard, tallies
        self._records = records
        self._admission, self._configure_operators, self._providers = admission, configure_operators, providers
        self._build_token_secrets = build_token_secrets

    def __call__(self) -> None:
        """Read and apply the settings, or say why not."""
        try:
            settings = load(self._path)
        except ConfigError as error:
            self._tallies.reloads["refused"] += 1
            logger.error("the settings were not changed: %s", error)  # noqa: TRY400 - the text says all
            return
        self._tallies.reloads["accepted"] += 1
        members = [member.member() for member in settings.members]
        self._registry.configure(members, settings.report_keys, settings.federation)
        self._keys.configure(*settings.signing_keys)
        self._records.seal_anew()
        self._guard.settings = settings.joining
        self._admission.configure(settings.admission)
        self._configure_operators(settings.admin)
        self._providers.configure(settings.providers)
        self._build_token_secrets.clear()
        self._build_token_secrets.update(settings.build_token_secrets)
        logger.info("the settings were read again")
        if late := self._needing_restart(settings):
            logger.warning("these settings have changed, and take effect with a restart: %s", ", ".join(late))

    def _needing_restart(self, settings: GatewaySettings) -> list[str]:
        before = self._started_with
        names = GatewaySettings.model_fields.keys() - AT_ONCE
        late = [name for name in names if getattr(settings, name) != getattr(before, name)]
        urls = [{member.url for member in each.members} for each in (before, settings)]
        if settings.providers.without_rules() == before.providers.without_rules():
            late = [name for name in late if name != "providers"]
        if before.mode == "redirect" and urls[0] != urls[1]:
            late.append("members (their addresses, for the pages of redirect mode)")
        if before.admin.public_url != settings.admin.public_url:
            late.append("admin.public_url")
        return sorted(late)
