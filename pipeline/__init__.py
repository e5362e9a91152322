"""Audit event pipeline with delegation graph analytics for AI agents."""

__version__ = "0.1.0"
