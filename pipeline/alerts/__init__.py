"""Alerts: findings of weight, told once to each sink, signed, from a durable outbox."""

from pipeline.alerts.alert import Alert, Outcome
from pipeline.alerts.run import AlertReport, send_alerts
from pipeline.alerts.sinks import load_sinks

__all__ = ["Alert", "AlertReport", "Outcome", "load_sinks", "send_alerts"]
