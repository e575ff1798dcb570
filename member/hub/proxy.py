"""The routes to sessions, which Traefik takes from a file a moment after it was written."""

import bcrypt
from jupyterhub.utils import exponential_backoff
from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from traitlets import default


class SessionProxy(TraefikFileProviderProxy):  # type: ignore[misc]  # JupyterHub ships no types
    """Has deleted a route only when Traefik no longer has it.

    The Hub deletes a server's route and then stops the server: so nobody is sent to one that is not there.
    """

    async def delete_route(self, routespec: str) -> None:
        """Delete a route, if there is one.  Should Traefik keep it, the server has to stop nevertheless: no error."""
        await super().delete_route(routespec)

        async def is_gone() -> bool:
            return not await self._check_for_traefik_service(routespec, "router")

        try:
            # As with those that are added: some at once, and asking often.
            async with self.semaphore:
                await exponential_backoff(is_gone, "still there", scale_factor=1.2, timeout=self.check_route_timeout)
        except TimeoutError as error:
            self.log.warning("Traefik keeps the route %s: %s", routespec, error)

    @default("traefik_api_hashed_password")
    def _cheaply_hashed(self) -> str:
        """Traefik checks it several times a launch, and dear hashes are for passwords that can be guessed."""
        return bcrypt.hashpw(self.traefik_api_password.encode(), bcrypt.gensalt(rounds=4)).decode()
