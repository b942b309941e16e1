"""Smoke checks that cost nothing: the process, its dependencies, its commit, and that it asks for credentials."""

from apps.platform_cli.smoke.addresses import via_proxy
from apps.platform_cli.smoke.result import CheckFailed
from apps.platform_cli.smoke.session import CHAT_PATH, PROMPT, SmokeSession, error_code, json_object, shown
from platform_app.auth.tokens import KeyEnvironment, generate_token


async def liveness(smoke: SmokeSession) -> str:
    """GET /livez returns 200: the process runs."""
    response = await smoke.get("/livez")
    if response.status_code != 200:
        raise CheckFailed(
            "200 from GET /livez",
            shown(response),
            "Check that --base-url is the gateway's own address, and read the gateway's log."
            + via_proxy(smoke.options.base_url),
        )
    return "GET /livez: 200"


async def readiness(smoke: SmokeSession) -> str:
    """GET /readyz returns 200: every required dependency is up and the gateway is not draining."""
    response = await smoke.get("/readyz")
    body = json_object(response)
    checks = [each for each in body.get("checks") or [] if isinstance(each, dict)]
    broken = [
        f"{each.get('name')} ({each.get('detail')})" for each in checks if each.get("required") and not each.get("ok")
    ]
    received = f"{response.status_code} {body.get('status')}: {', '.join(broken)}" if broken else shown(response)
    if response.status_code != 200:
        remedy = "Fix what is named; `flowbiz-platform check` gives details."
        raise CheckFailed("200 from GET /readyz", received, remedy)
    if broken or not checks or body.get("status") != "ready":
        remedy = (
            "A part in front sends its own response, or readiness does not follow its checks: send no traffic here."
        )
        raise CheckFailed("200 from GET /readyz with status ready and every required check ok", received, remedy)
    smoke.ready = True
    return f"GET /readyz: 200, {', '.join(str(each.get('name')) for each in checks)}"


async def commit(smoke: SmokeSession) -> str:
    """GET /v1/meta names the service, and the commit that --expect-sha names."""
    response = await smoke.get("/v1/meta")
    body = json_object(response)
    if response.status_code != 200 or not {"service", "version", "build_sha"} <= body.keys():
        raise CheckFailed(
            "200 with service, version and build_sha from GET /v1/meta",
            shown(response),
            "Check that --base-url is the address of this platform and not of another service.",
        )
    found, expected = body["build_sha"], smoke.options.expect_sha
    if expected is not None and found != expected:
        raise CheckFailed(
            f"build_sha {expected}",
            f"build_sha {found or 'not set'}",
            "Another version serves this address: finish the deploy, or set PLATFORM_BUILD_SHA to the built commit.",
        )
    return f"{body['service']} {body['version']}, build_sha {found or 'not set'}"


async def credentials(smoke: SmokeSession) -> str:
    """A request without a key is refused with 401, `missing_credentials` and `WWW-Authenticate`; an unknown key too."""
    response = await smoke.post(CHAT_PATH, {"prompt": PROMPT})
    code = error_code(response)
    if response.status_code == 401 and code == "missing_credentials" and "www-authenticate" in response.headers:
        await _unknown_key(smoke)
        return "a request without a key: 401 missing_credentials; with an unknown key: 401 invalid_api_key"
    if response.status_code == 401 and code == "missing_credentials":
        received = f"{shown(response)} without WWW-Authenticate"
        remedy = "A proxy in front removes the header WWW-Authenticate; let it pass."
    else:
        received = shown(response)
        remedy = "Do not send traffic here: something in front adds a credential, or this is not the gateway."
    raise CheckFailed("401 missing_credentials with WWW-Authenticate for a request without a key", received, remedy)


async def _unknown_key(smoke: SmokeSession) -> None:
    """Send a well-formed key that was never created."""
    environment: KeyEnvironment = "live" if smoke.options.key.startswith("fbp_live_") else "test"
    authorization = {"Authorization": f"Bearer {generate_token(environment).text}"}
    response = await smoke.post(CHAT_PATH, {"prompt": PROMPT}, authorization)
    if response.status_code != 401 or error_code(response) != "invalid_api_key":
        raise CheckFailed(
            "401 invalid_api_key for a request with an unknown key",
            shown(response),
            "Send no traffic here: keys are not checked, or this is not the gateway.",
        )
