"""MQTT: topics, the connection to a broker, what Home Assistant is told, and the check."""
