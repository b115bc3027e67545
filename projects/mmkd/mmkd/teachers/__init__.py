"""Teachers that answer messages: endpoints, local models, recordings."""
