"""What pika raises when RabbitMQ is away, closes the connection, or is something else that listens there."""

import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

# A server that accepts the connection and does not speak AMQP gives errors that are not among pika's AMQP errors.
CONNECTION_FAULTS = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)
