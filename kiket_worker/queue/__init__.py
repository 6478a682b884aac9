"""The way of a message: broker, encoder, the actor that receives it."""
