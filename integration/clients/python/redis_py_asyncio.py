"""The story with redis-py's asyncio client, on a loop of its own in a second thread:
the story itself waits for orders and would block it."""

import asyncio
import threading

from redis.asyncio.sentinel import Sentinel

import story


class Client:
    """The three commands of the story as coroutines."""

    def __init__(self):
        sentinel = Sentinel(
            story.SENTINELS,
            sentinel_kwargs={"password": story.SENTINEL_PASSWORD, "socket_timeout": 0.5},
            password=story.PASSWORD,
            socket_timeout=1,
        )
        self.master = sentinel.master_for(story.MASTER_NAME)
        self.replica = sentinel.slave_for(story.MASTER_NAME)

    async def increment(self):
        return await self.master.incr(story.KEY)

    async def read(self):
        return await self.master.get(story.KEY)

    async def read_replica(self):
        return await self.replica.get(story.KEY)


async def make():
    return Client()


loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


client = wait(make())
story.run(
    increment=lambda: wait(client.increment()),
    read=lambda: wait(client.read()),
    read_replica=lambda: wait(client.read_replica()),
)
