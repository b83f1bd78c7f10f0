"""The writers' job with redis-py: see ../node/writers.js for what it reports."""

import argparse
import json
import signal
import sys
import threading
import time

from redis.exceptions import RedisError
from redis.sentinel import Sentinel

PAUSE = 0.004  # seconds between two writes of a worker


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Job:
    """What all workers count together."""

    def __init__(self, master):
        self.master = master
        self.running = True
        self.lock = threading.Lock()
        self.acknowledged = 0
        self.wrong_reads = 0
        self.failures = {}
        self.longest_gap = 0.0
        self.last = None  # when the last write succeeded

    def succeeded(self):
        with self.lock:
            now = time.monotonic()
            if self.last is not None:
                self.longest_gap = max(self.longest_gap, now - self.last)
            self.last = now
            self.acknowledged += 1

    def failed(self, error):
        with self.lock:
            text = f"{type(error).__name__}: {error}"
            self.failures[text] = self.failures.get(text, 0) + 1

    def write(self, worker):
        worker["tried"] += 1
        n = worker["tried"]
        key = f"{worker['key']}:{n}"
        try:
            self.master.set(key, n)
        except RedisError as error:
            worker["failed"].append(n)
            self.failed(error)
            return
        self.succeeded()
        if n % 10 == 0:
            self.read_back(key, n)

    def read_back(self, key, n):
        try:
            value = self.master.get(key)
        except RedisError as error:
            self.failed(error)
            return
        if value != str(n).encode():
            with self.lock:
                self.wrong_reads += 1

    def work(self, worker):
        while self.running:
            self.write(worker)
            time.sleep(PAUSE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sentinels", default="127.0.0.1:26379,127.0.0.1:26380,127.0.0.1:26381")
    parser.add_argument("--name", default="mymaster")
    parser.add_argument("--prefix", default="redis-py")
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()

    addresses = [tuple(a.rsplit(":", 1)) for a in options.sentinels.split(",")]
    sentinel = Sentinel([(host, int(port)) for host, port in addresses], socket_timeout=0.5)
    job = Job(sentinel.master_for(options.name, socket_timeout=1))

    def end(_signal, _frame):
        job.running = False

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)

    workers = [{"key": f"{options.prefix}:{i}", "tried": 0, "failed": []} for i in range(options.workers)]
    threads = [threading.Thread(target=job.work, args=(w,)) for w in workers]
    for thread in threads:
        thread.start()
    while job.running:
        time.sleep(0.1)
        report("second", acknowledged=job.acknowledged)
    for thread in threads:
        thread.join()
    report("done", acknowledged=job.acknowledged, wrongReads=job.wrong_reads, failures=job.failures,
           longestGap=round(job.longest_gap * 1000), workers=workers)
    return 0


sys.exit(main())
