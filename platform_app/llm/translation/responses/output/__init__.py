"""The output items of a response, each with the events of its stream."""
