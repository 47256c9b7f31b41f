"""`exchange-simulator`: serves until SIGTERM or SIGINT. Configured by the environment (settings.py).

Exit codes: 0 orderly; 1 failed while running; 2 a setting cannot be used.
"""

import asyncio
import os
import signal
import sys

import uvloop

from exchange_simulator.log import configure_logging
from exchange_simulator.settings import SettingError, Settings, settings_from


async def serve(settings: Settings) -> int:
    """Serves until a signal asks for the end (0) or the markets' task fails (1)."""
    # Imported once the settings are known to be good: gRPC takes most of the start-up time.
    from exchange_simulator.server import ListenError, serving

    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    try:
        async with serving(settings) as (port, ticking):
            sys.stdout.write(f"exchange-simulator listening on {settings.host}:{port}\n")
            sys.stdout.flush()
            stop = asyncio.create_task(asked_to_stop.wait(), name="stop signal")
            await asyncio.wait([stop, ticking], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            return 1 if ticking.done() else 0
    except ListenError as error:
        sys.stderr.write(f"exchange-simulator: {error}\n")
        return 1


def main() -> int:
    try:
        settings = settings_from(os.environ)
    except SettingError as error:
        sys.stderr.write(f"exchange-simulator: {error}\n")
        return 2
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
