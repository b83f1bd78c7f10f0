"""The story that the client programs of every language tell, so that the tests can
compare their libraries: see ../go/story/story.go for orders and events."""

import os
import select
import sys
import time

BEAT = 0.1  # seconds between two increments
REPLICA_READS = 20

KEY = os.environ["COUNTER_KEY"]
MASTER_NAME = os.environ["MASTER_NAME"]
PASSWORD = os.environ["REDIS_PASSWORD"]
SENTINEL_PASSWORD = os.environ["SENTINEL_PASSWORD"]
SENTINELS = [(host, int(port)) for host, port in (a.rsplit(":", 1) for a in os.environ["SENTINELS"].split(","))]


def say(*words):
    print(*words, flush=True)


def report(event, failed, action):
    try:
        say(event, int(action()))
    except Exception as error:  # whatever the library raises is its answer
        say(failed, type(error).__name__, str(error).replace("\n", " "))


def obey(order, read, read_replica):
    if order == "read":
        report(order, order + " fail", read)
        return
    for _ in range(REPLICA_READS - 1):
        try:
            read_replica()
        except Exception:
            pass  # the last one is reported
    report(order, order + " fail", read_replica)


def run(increment, read, read_replica):
    """Tells the story; the three are functions without arguments."""
    increment()
    say("ready", int(read()))
    following = time.monotonic()
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], max(0.0, following - time.monotonic()))
        if readable:
            order = sys.stdin.readline().strip()
            if order in ("", "quit"):
                break
            obey(order, read, read_replica)
        else:
            following = time.monotonic() + BEAT
            report("ack", "fail", increment)
    say("done")
