"""The demo: a small company's events with planted attacks, through an embedded broker."""
