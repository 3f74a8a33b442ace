"""Processes put together: silo, hub, gateway; a federation on one machine, the demo, the doctor."""
