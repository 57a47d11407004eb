"""rq's tests know one address only, localhost:6379. Here every redis client without a port takes SUITE_REDIS_PORT."""

import inspect
import os

import redis

PORT = int(os.environ["SUITE_REDIS_PORT"])

for made in (redis.Redis, redis.Connection):
    taken = inspect.unwrap(made.__init__)
    taken.__defaults__ = tuple(PORT if default == 6379 else default for default in taken.__defaults__ or ())
