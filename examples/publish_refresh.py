"""Ask for a refresh: publish_refresh.py ORGANIZATION. Ends with an error unless RabbitMQ has stored the message."""

import json
import os
import sys
from uuid import uuid4

import pika

QUEUE = "kiket.analytics.refresh"

message = {
    "version": 1,
    "organization": sys.argv[1],
    "reason": "manual",
    "requested_by": "example:python",
    "idempotency_key": str(uuid4()),  # One for each request, and the same one when the request is repeated.
    "select": ["fct_cycle_time+"],
}

with pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])) as connection:
    channel = connection.channel()
    channel.confirm_delivery()  # From here on, basic_publish waits until RabbitMQ has the message, or raises.
    channel.basic_publish(
        exchange="",
        routing_key=QUEUE,
        body=json.dumps(message).encode(),
        properties=pika.BasicProperties(
            content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent.value
        ),
        mandatory=True,  # No such queue is an error and not silence.
    )
