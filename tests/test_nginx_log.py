"""What the nginx that operators are shown writes down of those who come."""

import asyncio
from pathlib import Path

from manybinder.ports import free_ports
from tests.nginxserver import Nginx


async def test_no_address_that_opens_a_session_is_logged(tmp_path: Path) -> None:
    *ports, gateway, api, sessions = free_ports(6)
    nginx = Nginx(tmp_path / "nginx", (ports[0], ports[1], ports[2]), (gateway, api, sessions))
    await nginx.start()
    try:
        async with nginx.visitor() as visitor:
            for url, path, referer in (
                (nginx.urls[0], "api/v1/launches/secret", ""),
                (nginx.urls[1], "api/v1/launches/secret.3", ""),
                (nginx.urls[2], "user/x/lab?token=secret", ""),
                (nginx.urls[2], "user/x/doc?reset&token=secret", ""),
                (nginx.urls[2], "user/x/static/lab.js", f"{nginx.urls[2]}user/x/lab?token=secret"),
                *((url, "build/gh/org/repo/main?build_token=x", "") for url in nginx.urls),
            ):
                async with visitor.get(url + path, headers={"Referer": referer}) as response:
                    assert response.status == 502, "nothing runs behind it"
        log = nginx.place / "access.log"
        async with asyncio.timeout(60):
            while log.read_text().count("GET /build/gh/org/repo/main") < 3:
                await asyncio.sleep(0.05)
        assert log.read_text().count("\n") == 3
    finally:
        await nginx.stop()
