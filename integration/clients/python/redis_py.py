"""The story with redis-py: Sentinel, master_for and slave_for."""

from redis.sentinel import Sentinel

import story

sentinel = Sentinel(
    story.SENTINELS,
    sentinel_kwargs={"password": story.SENTINEL_PASSWORD, "socket_timeout": 0.5},
    password=story.PASSWORD,
    socket_timeout=1,  # without one it waits for a node that has hung for as long as that hangs
)
master = sentinel.master_for(story.MASTER_NAME)
replica = sentinel.slave_for(story.MASTER_NAME)

story.run(
    increment=lambda: master.incr(story.KEY),
    read=lambda: master.get(story.KEY),
    read_replica=lambda: replica.get(story.KEY),
)
