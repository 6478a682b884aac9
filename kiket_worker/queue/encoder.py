"""The encoder: a message's body goes through Dramatiq untouched, so that plain JSON from any AMQP client will do.

Decoding never fails. What a body says is read by the actor, where a bad one can be answered: an exception here would
restart Dramatiq's consumer, and the message would come back for ever.
"""

from uuid import uuid4

from dramatiq import Encoder
from dramatiq.encoder import MessageData

from kiket_worker.contract import QUEUE_REQUESTS

ACTOR_NAME = "refresh"


class BodyEncoder(Encoder):
    """Dramatiq's envelope stays inside the process: only the body travels."""

    def encode(self, data: MessageData) -> bytes:
        """The body that the message carries."""
        body: bytes = data["kwargs"]["body"]
        return body

    def decode(self, data: bytes) -> MessageData:
        """Wrap a body for the actor. The consumer corrects the queue's name, which a body does not tell."""
        return {
            "queue_name": QUEUE_REQUESTS,
            "actor_name": ACTOR_NAME,
            "args": (),
            "kwargs": {"body": data},
            # Errors are given to the consumer all the same, but Dramatiq does not log them, and the body with them.
            "options": {"throws": Exception},
            "message_id": str(uuid4()),
            "message_timestamp": 0,
        }
