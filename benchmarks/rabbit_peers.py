"""Moving messages from one RabbitMQ queue to another with other clients, as pipelined as each of
them lets us. Run by rabbit_raw.py, in the environment of the peers:

    .venv-bench/bin/python benchmarks/rabbit_peers.py PEER URL SOURCE TARGET COUNT

Every one publishes persistent messages, mandatory, and acknowledges at the source only what the
broker has confirmed. Prints one line of JSON: seconds, CPU seconds of this process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

WINDOW = 1000


def with_pika(url: str, source: str, target: str, count: int) -> None:
    """The callbacks of SelectConnection: consume, publish, and acknowledge with each confirm."""
    import pika

    state: dict[str, Any] = {"moved": 0, "sent": 0}
    waiting: dict[int, int] = {}
    persistent = pika.BasicProperties(delivery_mode=2)

    def confirmed(frame: Any) -> None:
        tag = frame.method.delivery_tag
        tags = [each for each in waiting if each <= tag] if frame.method.multiple else [tag]
        for each in tags:
            state["source"].basic_ack(waiting.pop(each))
            state["moved"] += 1
        if state["moved"] >= count:
            connection.close()

    def came(_: Any, method: Any, __: Any, body: bytes) -> None:
        state["sent"] += 1
        waiting[state["sent"]] = method.delivery_tag
        state["target"].basic_publish("", target, body, persistent, mandatory=True)

    def source_open(channel: Any) -> None:
        state["source"] = channel
        channel.basic_qos(prefetch_count=WINDOW)
        channel.basic_consume(source, came)

    def target_open(channel: Any) -> None:
        state["target"] = channel
        channel.confirm_delivery(confirmed, callback=lambda _: connection.channel(
            on_open_callback=source_open))

    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda made: made.channel(on_open_callback=target_open),
        on_close_callback=lambda made, _: made.ioloop.stop())
    connection.ioloop.start()


def with_amqp(url: str, source: str, target: str, count: int) -> None:
    """py-amqp: a window of deliveries, a window of publishes, their confirms, one ack for all."""
    from urllib.parse import unquote, urlsplit

    import amqp

    parts = urlsplit(url)
    assert parts.username and parts.password
    with amqp.Connection(f"{parts.hostname}:{parts.port}", userid=unquote(parts.username),
                         password=unquote(parts.password),
                         virtual_host=unquote(parts.path[1:])) as connection:
        taking, giving = connection.channel(), connection.channel()
        came: list[Any] = []
        confirmed = {"up to": 0, "single": 0}

        def on_ack(tag: int, multiple: bool) -> None:
            if multiple:
                confirmed["up to"], confirmed["single"] = tag, 0
            else:
                confirmed["single"] += 1

        giving.confirm_select()
        giving.events["basic_ack"].add(on_ack)
        taking.basic_qos(0, WINDOW, False)
        taking.basic_consume(source, callback=came.append)
        moved = 0
        while moved < count:
            want = min(WINDOW, count - moved)
            while len(came) < want:
                connection.drain_events()
            batch, came[:] = came[:want], came[want:]
            for message in batch:
                giving.basic_publish(amqp.Message(message.body, delivery_mode=2), "", target,
                                     mandatory=True)
            moved += want
            while max(confirmed["up to"] + confirmed["single"], confirmed["single"]) < moved:
                connection.drain_events()
            taking.basic_ack(batch[-1].delivery_tag, multiple=True)


def with_amqpstorm(url: str, source: str, target: str, count: int) -> None:
    """A publish waits for its confirm: the library has no other way."""
    import amqpstorm

    with amqpstorm.UriConnection(url) as connection, connection.channel() as channel:
        channel.confirm_deliveries()
        channel.basic.qos(WINDOW)
        state = {"moved": 0}

        def came(message: Any) -> None:
            channel.basic.publish(message._body, target, "", {"delivery_mode": 2}, mandatory=True)
            message.ack()
            state["moved"] += 1
            if state["moved"] >= count:
                channel.stop_consuming()

        channel.basic.consume(came, source)
        channel.start_consuming()


def with_rabbitpy(url: str, source: str, target: str, count: int) -> None:
    """A publish waits for its confirm here, too."""
    import rabbitpy

    with rabbitpy.Connection(url) as connection, connection.channel() as channel:
        channel.enable_publisher_confirms()
        queue = rabbitpy.Queue(channel, source)
        for moved, message in enumerate(queue.consume(prefetch=WINDOW), 1):
            rabbitpy.Message(channel, message.body, {"delivery_mode": 2}).publish("", target)
            message.ack()
            if moved >= count:
                queue.stop_consuming()
                return


PEERS = {"pika": with_pika, "amqp": with_amqp, "amqpstorm": with_amqpstorm,
         "rabbitpy": with_rabbitpy}


def main() -> int:
    name, url, source, target, count = sys.argv[1:]
    began = time.perf_counter()
    before = sum(os.times()[:2])
    PEERS[name](url, source, target, int(count))
    print(json.dumps({"seconds": time.perf_counter() - began,
                      "cpu": sum(os.times()[:2]) - before}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
