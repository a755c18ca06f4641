"""The frame of the Python drivers' scripts; common.mjs says what the argument is."""

import asyncio
import inspect
import json
import sys
import time
import traceback

BLOB = bytes(index * 7 % 256 for index in range(100_000))


def main(features):
    settings = json.loads(sys.argv[1])
    failed = False
    for name in settings["features"]:
        line = {"feature": name, "ok": True, "startMs": time.time() * 1000}
        own = f"{settings['prefix']}_{name}"
        database, mine = (settings["prefix"], {**settings, "user": own}) if settings.get("users") else (own, settings)
        try:
            result = features[name](database, mine)
            if inspect.isawaitable(result):
                asyncio.run(asyncio.wait_for(result, 30))
        except Exception:
            failed = True
            line.update(ok=False, error=traceback.format_exc())
        line["endMs"] = time.time() * 1000
        time.sleep(0.02)  # what is told by its time keeps its distance
        print(json.dumps(line), flush=True)
    sys.exit(1 if failed else 0)


def fails(work, kind=Exception):
    """Runs what must fail."""
    try:
        answer = work()
    except kind as error:
        return error
    raise AssertionError(f"did not fail: {answer!r}")
