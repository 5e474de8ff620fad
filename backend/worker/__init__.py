"""The process that holds the model and works the queue."""
