"""Routes that call a model: `route` declares one, `response` sends its response, `session` names its conversation."""
