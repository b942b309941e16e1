"""One gateway process, as `flowbiz-platform serve` starts it: `python -m apps.platform_api <socket> <heartbeat>`."""

import gc

# Collecting garbage while modules load finds none, and takes a quarter of the time until the process is ready.
gc.disable()

from platform_app.observability.optional_modules import leave_out_optional_modules  # noqa: E402 - see above

leave_out_optional_modules()

from apps.platform_api.server.worker import main  # noqa: E402 - see above

if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main()
