"""The event types of the Certes community catalogue, a module for each provider."""
