// Ask for a refresh: node publish-refresh.mjs ORGANIZATION. Ends with an error unless RabbitMQ has stored the message.
import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const queue = "kiket.analytics.refresh";

const message = {
  version: 1,
  organization: process.argv[2],
  reason: "manual",
  requested_by: "example:node",
  idempotency_key: randomUUID(), // One for each request, and the same one when the request is repeated.
  select: ["fct_cycle_time+"],
};

const connection = await amqp.connect(process.env.RABBITMQ_URL);
try {
  const channel = await connection.createConfirmChannel();
  let returned = false;
  channel.on("return", () => (returned = true)); // With mandatory: there is no such queue. It comes before the confirm.
  const body = Buffer.from(JSON.stringify(message));
  channel.sendToQueue(queue, body, { contentType: "application/json", persistent: true, mandatory: true });
  await channel.waitForConfirms();
  if (returned) throw new Error(`RabbitMQ has no queue ${queue}`);
} finally {
  await connection.close();
}
