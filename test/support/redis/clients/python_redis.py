"""Python's `redis`. The one argument is JSON: {host, port, tls, ca, resp}."""
import json
import sys

import redis

settings = json.loads(sys.argv[1])
client = redis.Redis(
    host=settings["host"],
    port=settings["port"],
    ssl=settings["tls"],
    ssl_ca_certs=settings["ca"] if settings["tls"] else None,
    ssl_check_hostname=False,
    protocol=settings.get("resp", 2),
    single_connection_client=True,
)


def fails(call):
    try:
        call()
    except redis.RedisError:
        return
    raise Exception("did not fail")


client.set("python:a", "value")
client.get("python:a")
client.mset({f"python:{i}": "x" * i for i in range(50)})
client.mget([f"python:{i}" for i in range(50)])
fails(lambda: client.lpop("python:a"))
fails(lambda: client.execute_command("NOSUCHCOMMAND", "x"))
client.config_get("maxmemory")
with client.pipeline(transaction=False) as pipe:
    for i in range(100):
        pipe.incr("python:n")
    pipe.lpop("python:a")
    pipe.execute(raise_on_error=False)
with client.pipeline(transaction=True) as pipe:
    pipe.incr("python:n").lpop("python:a").get("python:n")
    pipe.execute(raise_on_error=False)
with client.pipeline() as pipe:
    pipe.watch("python:n")
    pipe.get("python:n")
    pipe.multi()
    pipe.incr("python:n")
    pipe.execute()
client.execute_command("SELECT", "5")
client.set("python:in5", "5")
client.execute_command("SELECT", "0")
script = client.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
script(keys=["python:lua"], args=["1"])
client.set("python:large", b"x" * 3_000_000)
client.get("python:large")
client.blpop("python:none", timeout=0.2)
client.zadd("python:z", {"a": 1, "b": 2})
client.zrange("python:z", 0, -1, withscores=True)
list(client.scan_iter("python:*", count=10))
client.close()
